"""Apps that track are started from Auto Track, waited for, chosen, restarted; what goes wrong is told in plain words."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from apps.auto_track.deploying import Agent, Deployment, Deployments, Home, Offer, agents, offers, place_for
from apps.auto_track.discovery import App, app_of
from apps.auto_track.main import create_app
from apps.auto_track.service import Service
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec, read_spec
from common.errors import EngineUnavailable, ServerRefused
from common.serving.access import Access, normalised
from common.serving.settings import ServingSettings
from tests import chromium
from tests.apps.auto_track.conftest import AppServer, Auto, Lab, wait_until
from tests.apps.workbench.harness import Running, Served, free_port
from tests.apps.workbench.test_tasks import ROOT

BROKEN = AppSpec(
    "broken",
    ("/no/such/program",),
    ROOT,
    {"name": "Broken tracker", "session_tags": ["sly_video_tracking"], "allowed_shapes": ["point"]},
)
TRACKER = App("X", ("sly_video_tracking",), ("rectangle",))


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"session_tags": ["sly_video_tracking"], "allowed_shapes": ["polyline", "graph"]}, {"line", "graph"}),
        ({"session_tags": ["sly_video_tracking", "sly_smart_annotation"], "allowed_shapes": ["bitmap"]}, {"bitmap", "smarttool"}),
        ({"session_tags": ["sly_video_tracking"]}, {"rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph"}),
        ({"session_tags": ["deployed_nn", "sly_video_tracking_by_detection"]}, {"detector"}),
        ({"session_tags": ["sly_video_tracking"], "is_auto_track": True}, None),
        ({"session_tags": ["other"]}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_what_an_app_serves_is_read_from_its_config(config: dict[str, Any], kinds: set[str] | None) -> None:
    app = app_of("X", config)
    every = ("rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph", "smarttool", "detector")
    assert (None if app is None else {kind for kind in every if app.serves(kind)}) == kinds


CPU, GPU = Agent(1, "desk", False), Agent(2, "server", True)


@pytest.mark.parametrize(
    ("gpu", "found", "here", "chosen", "expected"),
    [
        ("no", [CPU, GPU], 1, None, 1),
        ("no", [CPU, GPU], 2, 1, 1),
        ("no", [CPU, GPU], None, None, 1),
        ("preferred", [CPU, GPU], None, None, 2),
        ("preferred", [CPU], None, None, 1),
        ("required", [CPU, GPU], 1, None, 2),
        ("required", [CPU], 1, None, "GPU"),
        ("no", [], 7, None, 7),
        ("required", [], 7, None, 7),
        ("no", [], None, None, "no computer"),
    ],
)
def test_where_an_app_is_started(
    gpu: str, found: list[Agent], here: int | None, chosen: int | None, expected: Any
) -> None:
    offer = Offer(5, TRACKER, gpu)
    if isinstance(expected, str):
        with pytest.raises(EngineUnavailable, match=expected):
            place_for(offer, found, Home(1, 1, here), chosen)
    else:
        assert place_for(offer, found, Home(1, 1, here), chosen) == expected


class _Platform:
    """Answers lists as the platform does."""

    def __init__(self, **replies: Any) -> None:
        self.replies = replies

    def call(self, method: str, payload: Any = None, **_: Any) -> Any:
        found = self.replies.get(method.replace(".", "_"))
        if found is None:
            raise ServerRefused("unknown method", 404, method)
        return found


def test_the_platforms_lists_are_read() -> None:
    modules = [
        {"id": 3, "name": "Net", "config": {"session_tags": ["sly_video_tracking"], "need_gpu": True, "modal_template_state": {"autostart": True}}},
        {"id": 4, "name": "Import", "config": {"categories": ["import"]}},
        {"id": 5, "name": "Ask", "config": None},
    ]  # fmt: skip
    computers = [
        {"id": 9, "name": "b", "capabilities": {"types": {"app_gpu": {"enabled": True}}}},
        {"id": 8, "name": "a", "gpuInfo": None, "disabled": False},
        {"id": 7, "name": "off", "disabled": True},
    ]
    server: Any = _Platform(
        ecosystem_list={"entities": modules, "total": 3, "perPage": 500}, agents_available=computers
    )
    assert offers(server) == [Offer(3, App("Net", ("sly_video_tracking",), None), "required", {"autostart": True})]
    assert agents(server, 1) == [Agent(8, "a", False), Agent(9, "b", True)]
    assert agents(_Platform(), 1) == [], "a server without that list"  # type: ignore[arg-type]


# --- on a workbench ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A workbench that can start Box Tracker, and an app that does not start."""
    data = tmp_path_factory.mktemp("workbench") / "data"
    specs = (read_spec(ROOT / "apps" / "box_tracker", ROOT), BROKEN)
    with Running(Settings(data, port=free_port(), app_check_every_s=0.1), specs) as it:
        yield it


@pytest.fixture
def auto(served: Served, tmp_path: Path) -> Iterator[Auto]:
    own = served.own("POST", "apps/register", json={"name": "auto", "url": f"http://127.0.0.1:{free_port()}"}).json()
    access = Access(normalised(served.settings.address), served.bench.token)
    service = Service(ServingSettings(tmp_path / "auto", access, own["id"]), linger_s=0.2)
    with AppServer(create_app(service=service)) as url:
        yield Auto(url, service, served)


def _ask(auto: Auto, path: str, **state: Any) -> requests.Response:
    """As the page does: without a token."""
    return requests.post(f"{auto.url}/{path}", json={"state": state}, timeout=30)


def _module(auto: Auto, kind: str) -> int:
    (offer,) = _ask(auto, "startable_engines").json()["engines"][kind]
    return int(offer["module_id"])


def _ended(auto: Auto, task_id: int) -> Deployment:
    def look() -> Deployment | None:
        found = {d.task_id: d for d in auto.service.deployments.all()}[task_id]
        return None if found.state == "starting" else found

    found: Deployment = wait_until(look, 120)
    return found


def test_a_started_app_tracks_what_it_was_started_for(auto: Auto, lab: Lab) -> None:
    reply = _ask(auto, "deploy_engine", module_id=_module(auto, "rectangle"), kinds=["rectangle", "bitmap"])
    assert reply.status_code == 200, reply.text
    started = reply.json()
    assert (started["title"], started["state"], started["kinds"]) == ("Box Tracker", "starting", ["rectangle"])
    assert auto.service.store.get().engine("rectangle").engine == "default", "as before, until it is ready"
    assert _ended(auto, started["task_id"]).state == "ready"
    chosen = requests.get(f"{auto.url}/settings", timeout=10).json()["engines"]
    assert chosen["rectangle"]["task_id"] == started["task_id"]
    assert chosen["bitmap"]["engine"] == "default"
    ident = lab.object()
    lab.box(ident, 0)
    track = str(uuid.uuid4())
    context = {"trackId": track, "videoId": lab.video_id, "objectIds": [ident], "frameIndex": 0, "frames": 5}
    auto.post("track", {**context, "trackByDetection": False})
    lab.finished(track, timeout_s=60)
    assert (lab.errors(track), sorted(lab.figures(ident))) == ([], [0, 1, 2, 3, 4, 5])

    again = _ask(auto, "restart_engine", task_id=started["task_id"])
    assert again.status_code == 200, again.text
    assert again.json()["task_id"] == started["task_id"], "the same session, so that what was chosen stays chosen"
    assert _ended(auto, started["task_id"]).state == "ready"
    auto.served.api.task.stop(started["task_id"])


def test_an_app_that_does_not_start_is_told(auto: Auto) -> None:
    started = _ask(auto, "deploy_engine", module_id=_module(auto, "point"), kinds=["point"]).json()
    ended = _ended(auto, started["task_id"])
    assert ended.state == "failed" and "Broken tracker ended while it was starting" in ended.message
    assert auto.service.store.get().engine("point").engine == "default"
    auto.served.api.task.stop(started["task_id"])


def test_an_app_that_is_not_offered_is_not_started(auto: Auto) -> None:
    reply = _ask(auto, "deploy_engine", module_id=424242, kinds=["point"])
    assert reply.status_code == 400 and "not among the apps" in reply.json()["message"]
    reply = _ask(auto, "restart_engine", task_id=auto.service.settings.task_id)
    assert reply.status_code == 400 and "cannot be started from here" in reply.json()["message"]
    assert auto.service.deployments.all() == []


def test_a_stranger_starts_nothing(auto: Auto) -> None:
    body = {"state": {"module_id": _module(auto, "rectangle"), "kinds": []}, "api_token": "x" * 128}
    assert requests.post(f"{auto.url}/deploy_engine", json=body, timeout=10).status_code in (401, 403)
    form = requests.post(f"{auto.url}/deploy_engine", data=b"{}", headers={"content-type": "text/plain"}, timeout=10)
    assert form.status_code == 415, "no page of others can send it"
    assert auto.service.deployments.all() == []


def test_waiting_ends_one_day(auto: Auto) -> None:
    auto.service.deployments = Deployments(auto.service._chosen, patience_s=0.2, every_s=0.1)
    started = _ask(auto, "deploy_engine", module_id=_module(auto, "rectangle"), kinds=["rectangle"]).json()
    ended = _ended(auto, started["task_id"])
    assert ended.state == "failed" and "not ready after" in ended.message
    auto.served.api.task.stop(started["task_id"])


@pytest.mark.slow
def test_the_page_starts_and_chooses_an_app(auto: Auto) -> None:
    if chromium.find() is None:
        pytest.skip(chromium.MISSING)
    with chromium.launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(90_000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(auto.url)
        page.wait_for_selector("#kind-rectangle option:has-text('start Box Tracker')", state="attached")
        page.select_option("#kind-rectangle", label="start Box Tracker")
        page.select_option("#kind-bitmap", label="not tracked")
        page.click("button:has-text('Save')")
        page.wait_for_selector("#starting li:has-text('Box Tracker is ready')")
        page.wait_for_function("document.getElementById('kind-rectangle').value.includes('task_id')")
        assert page.is_visible(".again >> nth=0")
    assert faults == []
    chosen = auto.service.store.get()
    assert not chosen.engine("bitmap").chosen
    task = chosen.engine("rectangle").task_id
    assert task is not None
    auto.served.api.task.stop(task)
