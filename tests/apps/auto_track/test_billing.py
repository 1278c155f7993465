"""Every reservation is settled once, with what was stored; nothing happens without an account; no token gets out."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import supervisely as sly
from hypothesis import given
from hypothesis import strategies as st

from apps.auto_track import messages
from apps.auto_track.billing import ACTION_HEADER, TOKEN_HEADER, Account, Bill, account_of, cloud_of
from apps.auto_track.main import create_app
from common.errors import UserError
from common.serving.access import Caller
from tests.apps.auto_track.conftest import AppServer, Auto, Lab, make_service, wait_until
from tests.apps.auto_track.toys import Rail
from tests.apps.workbench.harness import Served

SECRET = "cloud-secret-4711"
HEADERS = {TOKEN_HEADER: SECRET, ACTION_HEADER: "action-9"}


@dataclass
class Recorder:
    """A cloud that writes down what it is asked for."""

    reserved: dict[int, int] = field(default_factory=dict)
    withdrawn: dict[int, list[int]] = field(default_factory=dict)
    refuse: bool = False
    fail: int = 0

    def reserve(self, items: int) -> int:
        if self.refuse:
            raise UserError(messages.CANNOT_RESERVE)
        transaction = len(self.reserved) + 1
        self.reserved[transaction] = items
        return transaction

    def withdraw(self, items: int, transaction: int) -> None:
        if self.fail > 0:
            self.fail -= 1
            raise UserError(messages.CANNOT_WITHDRAW)
        self.withdrawn.setdefault(transaction, []).append(items)

    @property
    def paid(self) -> int:
        return sum(sum(items) for items in self.withdrawn.values())

    def settled(self) -> bool:
        """Each exactly once, and never for more than was reserved."""
        return self.withdrawn.keys() == self.reserved.keys() and all(
            len(items) == 1 and 0 <= items[0] <= self.reserved[t] for t, items in self.withdrawn.items()
        )


def _bill(cloud: Recorder | None, portion: int = 8) -> Bill:
    bill = Bill(lambda message: None, portion=portion)
    bill.charge(cloud)
    return bill


@given(
    frames=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6), st.booleans()), max_size=40),
    portion=st.integers(1, 20),
    lost=st.integers(0, 10),
)
def test_what_is_paid_is_what_was_stored(frames: list[tuple[int, int, bool]], portion: int, lost: int) -> None:
    """frames: figures predicted, figures kept (masks may have pieces), whether it is confirmed at once. lost: never are."""
    cloud = Recorder()
    bill = _bill(cloud, portion)
    left, done = sum(count for count, _, _ in frames), 0
    waiting: list[tuple[int, int]] = []
    for count, kept, at_once in frames:
        bill.ahead(lambda count=count: count, lambda left=left: left)
        done += count
        assert sum(cloud.reserved.values()) >= done, "first reserved, then predicted"
        bill.given(count)
        left -= count
        waiting.append((count, kept))
        if at_once:
            for entry in waiting:
                bill.stored(*entry)
            waiting.clear()
    for entry in waiting[lost:]:
        bill.stored(*entry)
    told = [*frames[: len(frames) - len(waiting)], *frames[len(frames) - len(waiting) + lost :]]
    bill.settle()
    bill.settle()
    assert cloud.settled() or not frames
    assert cloud.paid == sum(min(kept, count) for count, kept, _ in told)


def test_it_reserves_in_portions_but_not_more_than_is_left() -> None:
    cloud = Recorder()
    bill = _bill(cloud, 8)
    for left in range(10, 0, -1):
        bill.ahead(lambda: 1, lambda left=left: left)
        bill.given(1)
        bill.stored(1, 1)
    assert cloud.reserved == {1: 8, 2: 2}
    assert cloud.withdrawn == {1: [8]}, "settled as soon as all of it is stored"
    bill.settle()
    assert cloud.withdrawn == {1: [8], 2: [2]}


def test_a_reservation_of_which_nothing_came_is_given_back() -> None:
    cloud = Recorder()
    bill = _bill(cloud)
    bill.ahead(lambda: 1, lambda: 100)
    bill.settle()
    assert cloud.withdrawn == {1: [0]}


def test_nobody_pays_without_an_account() -> None:
    bill = _bill(None)
    bill.ahead(lambda: 1 / 0, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    bill.given(3)
    bill.stored(3, 3)
    bill.settle()
    assert bill.owed() == []
    assert account_of({}) is None
    assert account_of({TOKEN_HEADER: "x"}) is None and account_of({ACTION_HEADER: "x", TOKEN_HEADER: ""}) is None


def test_a_withdrawal_that_fails_is_tried_again_and_told_at_the_end() -> None:
    told: list[str] = []
    cloud = Recorder()
    bill = Bill(told.append, portion=1)
    bill.charge(cloud)
    for _ in range(3):
        bill.ahead(lambda: 1, lambda: 9)
        bill.given(1)
        bill.stored(1, 1)
        cloud.fail = 1
    bill.ahead(lambda: 1, lambda: 9)  # the failing one
    assert told == []
    cloud.fail = 1
    bill.settle()
    assert told == [messages.CANNOT_WITHDRAW]
    assert cloud.withdrawn == {2: [1], 3: [1], 4: [1]}, "the others are settled all the same"


def test_what_is_owed_outlives_a_crash() -> None:
    noted: list[list[list[Any]]] = []
    cloud = Recorder()
    first = Bill(lambda message: None, noted.append, portion=4)
    first.charge(cloud)
    first.ahead(lambda: 1, lambda: 9)
    assert noted[-1] == [[1, 0]], "before anything is predicted"
    first.given(3)
    first.stored(3, 2)
    first.write_down()
    assert noted[-1] == [[1, 2]]
    again = Bill(lambda message: None, noted.append, portion=4)
    again.inherit(noted[-1])
    again.ahead(lambda: 1, lambda: 9)
    assert cloud.withdrawn == {} and again.owed() == [[1, 2]], "nobody pays as long as nobody brings an account"
    again.charge(cloud)
    again.ahead(lambda: 1, lambda: 9)
    assert cloud.withdrawn == {1: [2]}
    again.settle()
    assert noted[-1] == [] and cloud.settled()


# --- the SDK ---------------------------------------------------------------------------------------------------------------


class _SdkMethods:
    """What builds of the SDK with cloud billing offer."""

    calls: list[tuple[Any, ...]]

    def __init__(self) -> None:
        self.calls = []
        self.broken = False

    def billing_reserve(self, user_id: int, items: int, token: str, action: str) -> dict[str, Any]:
        self.calls.append(("reserve", user_id, items, token, action))
        if self.broken:
            raise requests.ConnectionError(f"POST with {token}")
        return {"transactionId": "t-1"}

    def billing_withdrawal(self, user_id: int, items: int, transaction: str, token: str, action: str) -> None:
        self.calls.append(("withdraw", user_id, items, transaction, token, action))


class _Server:
    def call(self, method: str) -> Any:
        assert method == "users.me"
        return {"id": 5}


def test_the_sdks_methods_are_used_where_there_are_any(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    account, caller = Account(SECRET, "action-9"), Caller("http://127.0.0.1:1", "token")
    assert SECRET not in repr(account)
    methods = _SdkMethods()
    monkeypatch.setattr(sly, "Api", lambda address, token: type("Api", (), {"cloud": methods})())
    assert cloud_of(None, caller, _Server()) is None  # type: ignore[arg-type]
    cloud = cloud_of(account, caller, _Server())  # type: ignore[arg-type]
    assert cloud is not None
    cloud.withdraw(3, cloud.reserve(7))
    assert methods.calls == [
        ("reserve", 5, 7, SECRET, "action-9"),
        ("withdraw", 5, 3, "t-1", SECRET, "action-9"),
    ]
    methods.broken = True
    with pytest.raises(UserError, match="reserve tokens") as caught:
        cloud.reserve(1)
    assert SECRET not in str(caught.value) and SECRET not in repr(caught.value.__cause__)
    assert SECRET not in caplog.text


def test_the_released_sdk_knows_no_billing_and_that_is_no_error(served: Served, caplog: Any) -> None:
    caller = Caller(served.settings.address, served.bench.token)
    assert cloud_of(Account(SECRET, "a"), caller, _Server()) is None  # type: ignore[arg-type]
    assert "nothing is billed" in caplog.text and SECRET not in caplog.text


# --- the whole way ---------------------------------------------------------------------------------------------------------


@dataclass
class Paying(Auto):
    cloud: Recorder = field(default_factory=Recorder)
    accounts: list[Account | None] = field(default_factory=list)

    def ask(self, endpoint: str, context: dict[str, Any], headers: dict[str, str] = HEADERS) -> None:
        body = {
            "context": context,
            "server_address": self.served.settings.address,
            "api_token": self.served.bench.token,
        }
        reply = requests.post(f"{self.url}/{endpoint}", json=body, headers=headers, timeout=10)
        assert reply.status_code == 200, reply.text


@pytest.fixture
def paying(served: Served, tmp_path: Path) -> Iterator[Paying]:
    rail, cloud, accounts = Rail(), Recorder(), []

    def find(account: Account | None, caller: Caller, server: Any) -> Recorder:
        accounts.append(account)
        return cloud

    service = make_service(served, tmp_path / "auto", rail, cloud=find)
    with AppServer(create_app(service=service)) as url:
        try:
            yield Paying(url, service, served, rail, cloud, accounts)
        finally:
            rail.gate.set()


def _context(lab: Lab, objects: list[int], frames: int = 10) -> dict[str, Any]:
    return {
        "trackId": str(uuid.uuid4()), "videoId": lab.video_id, "objectIds": objects, "frameIndex": 0, "frames": frames,
        "sessionId": "s", "trackByDetection": False,
    }  # fmt: skip


def test_a_track_pays_for_the_figures_that_it_stored(paying: Paying, lab: Lab, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    objects = [lab.object(), lab.object()]
    for ident in objects:
        lab.box(ident, 0)
    context = _context(lab, objects)
    paying.ask("track", context)
    lab.finished(context["trackId"])
    wait_until(paying.cloud.settled)
    assert paying.accounts == [Account(SECRET, "action-9")]
    assert paying.cloud.paid == 20 == sum(len(f) for f in lab.figures().values()) - 2
    paying.ask("continue_track", {**context, "frameIndex": 10, "frames": 5})
    lab.finished(context["trackId"], 2)
    wait_until(lambda: paying.cloud.paid == 30 and paying.cloud.settled())
    assert SECRET not in caplog.text


def test_without_headers_nobody_is_asked(paying: Paying, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    context = _context(lab, [ident])
    paying.ask("track", context, {TOKEN_HEADER: SECRET})
    lab.finished(context["trackId"])
    assert paying.accounts == [] and paying.cloud.reserved == {}


def test_a_stop_settles_what_is_open(paying: Paying, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    context = _context(lab, [ident], 25)
    paying.rail.delay_s = 0.05
    paying.ask("track", context)
    wait_until(lambda: paying.rail.pushes >= 4)
    paying.ask("stop_tracking", {"trackId": context["trackId"]})
    lab.finished(context["trackId"])
    wait_until(paying.cloud.settled)
    assert paying.cloud.paid == len(lab.figures(ident)) - 1 < 25


def test_who_cannot_pay_is_told_and_nothing_is_predicted(paying: Paying, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    paying.cloud.refuse = True
    context = _context(lab, [ident])
    paying.ask("track", context)
    lab.finished(context["trackId"])
    assert lab.errors(context["trackId"]) == [messages.CANNOT_RESERVE]
    assert list(lab.figures(ident)) == [0] and paying.rail.pushes == 0


def test_an_engine_that_fails_costs_nothing(paying: Paying, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    paying.rail.fail_on = set(range(1, 100))
    context = _context(lab, [ident])
    paying.ask("track", context)
    lab.finished(context["trackId"])
    wait_until(paying.cloud.settled)
    assert paying.cloud.paid == 0 and list(lab.figures(ident)) == [0]


def test_what_a_crashed_run_owed_is_paid_by_the_next_request(paying: Paying, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    context = _context(lab, [ident], 3)
    paying.service.journal.owe(context["trackId"], [[77, 4], [78, 0]])
    paying.ask("track", context)
    lab.finished(context["trackId"])
    wait_until(lambda: paying.cloud.withdrawn == {77: [4], 78: [0], 1: [3]})
    wait_until(lambda: paying.service.journal.owed(context["trackId"]) == [])
