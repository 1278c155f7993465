"""Injected failures do what they say, and only to whom they should."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from apps.workbench.faults import FaultRule, Faults
from tests.apps.workbench.harness import Labelled, Served, rectangle


@pytest.fixture(autouse=True)
def _no_faults_left(served: Served) -> Iterator[None]:
    yield
    served.own("DELETE", "faults")


def _arm(served: Served, **rule: object) -> None:
    assert served.own("POST", "faults", json=[rule]).status_code == 200


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_status(served: Served, status: int) -> None:
    _arm(served, method="users.me", status=status, count=2)
    assert served.call("teams.list", {"filter": []}).status_code == 200, "another method is spared"
    assert [served.call("users.me").status_code for _ in range(3)] == [status, status, 200]


def test_the_sdk_tries_again(served: Served) -> None:
    _arm(served, method="users.me", status=500, count=2)
    assert served.api.user.get_my_info().login == "admin"


def test_some_pass_first(served: Served) -> None:
    _arm(served, status=502, skip=2)
    assert [served.call("users.me").status_code for _ in range(4)] == [200, 200, 502, 200]


def test_delay(served: Served) -> None:
    _arm(served, method="users.me", delay_s=0.4)
    start = time.monotonic()
    assert served.call("users.me").status_code == 200
    assert time.monotonic() - start >= 0.4


def test_disconnect(served: Served) -> None:
    _arm(served, method="users.me", disconnect=True)
    with pytest.raises(requests.RequestException):
        served.call("users.me")
    assert served.call("users.me").status_code == 200


@pytest.mark.parametrize("how", [{"disconnect": True}, {"status": 500}])
def test_work_done_and_reply_lost_is_no_duplicate_with_keys(
    served: Served, labelled: Labelled, how: dict[str, object]
) -> None:
    """The failure that doubles figures: the server stored them, the client never heard, and sends them again."""
    _arm(served, method="figures.bulk.add", when="after", **how)
    figure = {"objectId": labelled.add_object(served), "geometryType": "rectangle", "geometry": rectangle()}
    figures = [{**figure, "meta": {"frame": frame}, "key": f"k{frame}"} for frame in range(3)]
    ids = served.api.video.figure.create_bulk(figures, entity_id=labelled.video.id)
    stored = served.call("figures.list", {"datasetId": labelled.dataset_id}).json()["entities"]
    assert [entity["id"] for entity in stored] == ids


def test_rules_that_make_no_sense_are_refused(served: Served) -> None:
    for rule in ({"status": 200}, {"count": 0}, {"delay_s": -1}, {"staus": 500}):
        assert served.own("POST", "faults", json=[rule]).status_code == 400


def test_the_first_rule_that_fits_is_used_up_first() -> None:
    faults = Faults()
    faults.arm([FaultRule(method="a", status=500), FaultRule(status=400, count=2)])
    taken = [faults.take(method) for method in ("b", "a", "a", "a")]
    assert [rule.status if rule else None for rule in taken] == [400, 500, 400, None]
