"""The model of an app: listed, downloaded, chosen, and the choice kept over a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from apps.mask_tracker.main import CONFIG
from common.serving.app import create_app
from common.serving.settings import ServingSettings, TrackerApp
from common.weights import store
from common.weights.entries import catalogue
from common.weights.options import EngineOptions

MODEL = "xmem"


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store that may not use the network; its mirror."""
    monkeypatch.setenv(store.FOLDER, str(tmp_path / "weights"))
    monkeypatch.setenv(store.MIRROR, str(tmp_path / "mirror"))
    monkeypatch.setenv(store.OFFLINE, "1")
    (tmp_path / "mirror").mkdir()
    return tmp_path / "mirror"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(app(tmp_path)) as it:
        yield it


def app(tmp_path: Path, **settings: object):
    return create_app(TrackerApp.from_config(CONFIG), ServingSettings(tmp_path / "app", **settings))  # type: ignore[arg-type]


def listed(client: TestClient) -> dict[str, dict]:
    return {model["name"]: model for model in client.get("/models").json()["models"]}


def named(name: str, **more: str) -> dict[str, object]:
    return {"state": {"name": name, **more}}


def put_in(mirror: Path, name: str) -> None:
    for file in catalogue().entries[name].files:
        (mirror / file.name).write_bytes(b"weights" * 10)


def test_all_models_of_the_app_are_listed(client: TestClient) -> None:
    models = listed(client)
    assert models["flow"]["chosen"] and models["flow"]["weights"] == "none needed"
    assert models[MODEL]["weights"] == "not here" and not models[MODEL]["chosen"]
    assert all("mask" in model["geometries"] for model in models.values())
    page = client.get("/")
    assert page.status_code == 200 and "http://" not in page.text and "https://" not in page.text


def test_missing_weights_are_told_with_the_command_and_change_nothing(client: TestClient) -> None:
    reply = client.post("/models/choose", json=named(MODEL))
    assert reply.status_code == 400
    assert f"python -m apps models download {MODEL}" in reply.json()["message"]
    assert listed(client)["flow"]["chosen"]


@pytest.mark.parametrize(
    "state", [named("nothing"), named("correlation"), named(MODEL, device="abacus"), {"state": {}}]
)
def test_what_cannot_be_chosen_is_refused(client: TestClient, state: dict) -> None:
    reply = client.post("/models/choose", json=state)
    assert reply.status_code in (400, 422) and reply.json()["message"]
    assert listed(client)["flow"]["chosen"]


def test_a_download_that_fails_says_why(client: TestClient) -> None:
    client.post("/models/download", json=named(MODEL))
    ended = _ended(client)
    assert "not on this machine" in ended["error"]
    assert listed(client)[MODEL]["weights"] == "not here"


def test_downloaded_chosen_and_remembered(tmp_path: Path, weights: Path) -> None:
    with TestClient(app(tmp_path)) as client:
        put_in(weights, MODEL)
        client.post("/models/download", json=named(MODEL))
        assert _ended(client)["error"] is None
        assert listed(client)[MODEL]["weights"] == "here"
        reply = client.post("/models/choose", json=named(MODEL, device="cpu", precision="float32"))
        assert reply.status_code == 200, reply.text
    with TestClient(app(tmp_path)) as client:
        assert listed(client)[MODEL]["chosen"]
        assert client.post("/get_session_info").json()["trackers"] == {"mask": MODEL}
        deployed = client.post("/get_deploy_info").json()
        assert (deployed["device"], deployed["model_precision"], deployed["runtime"]) == ("cpu", "float32", "PyTorch")
        assert client.get("/is_ready").status_code == 200


def test_an_app_told_to_use_weights_that_are_missing_is_not_ready_and_says_so(tmp_path: Path) -> None:
    with TestClient(app(tmp_path, tracker=MODEL, options=EngineOptions(device="cpu"))) as client:
        reply = client.get("/is_ready")
        assert reply.status_code == 503
        assert f"models download {MODEL}" in reply.json()["message"]
        client.post("/models/choose", json=named("flow"))
        assert client.get("/is_ready").status_code == 200


def _ended(client: TestClient) -> dict:
    deadline = time.monotonic() + 30
    while (download := listed(client)[MODEL]["download"]) is None or download["running"]:
        assert time.monotonic() < deadline, "the download does not end"
        time.sleep(0.05)
    return download
