"""One workbench and one browser for all page tests; every test has a video and a browser context of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests import chromium
from tests.apps.workbench.annotator.browser import PATIENCE_S, Bench, Screen, wait, write_clip
from tests.apps.workbench.harness import free_port

FRAMES = 48


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small clip, a long one (of the same size, a thousand frames) and one of 1080p."""
    folder = tmp_path_factory.mktemp("page-clips")
    return {
        "small": write_clip(folder / "small.mp4", FRAMES, 320, 240, 1),
        "long": write_clip(folder / "long.mp4", 1000, 320, 240, 3),
        "large": write_clip(folder / "large.mp4", 24, 1920, 1080, 2),
    }


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    running = Bench(tmp_path_factory.mktemp("page") / "data", free_port())
    yield running
    running.stop()


@pytest.fixture(scope="package")
def tracking(bench: Bench) -> Bench:
    """Once Auto Track answers."""
    wait(
        lambda: any(app["autoTrack"] and app["ready"] for app in bench.own("GET", "annotator/apps")),
        "Auto Track's start",
    )
    return bench


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Gone before other tests run: while Playwright runs, this thread counts as one with an event loop."""
    if chromium.find() is None:
        pytest.skip(chromium.MISSING)
    with chromium.launched() as started:
        yield started


@pytest.fixture
def screen(browser: Browser, bench: Bench, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Screen]:
    context = browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True, color_scheme="dark")
    context.set_default_timeout(PATIENCE_S * 1000)
    made = Screen(context.new_page(), bench)
    yield made
    context.close()
    assert not made.errors, made.errors


@pytest.fixture
def video(bench: Bench, clips: dict[str, Path], request: pytest.FixtureRequest) -> int:
    """A fresh copy of the small clip."""
    return add(bench, clips["small"], request)


@pytest.fixture
def long(bench: Bench, clips: dict[str, Path], request: pytest.FixtureRequest) -> int:
    """A fresh copy of the long clip: whoever stops its tracking comes in time."""
    return add(bench, clips["long"], request)


@pytest.fixture
def large(bench: Bench, clips: dict[str, Path], request: pytest.FixtureRequest) -> int:
    return add(bench, clips["large"], request)


def add(bench: Bench, clip: Path, request: pytest.FixtureRequest) -> int:
    project = bench.call("projects.add", name=f"{request.node.name}"[:90], workspaceId=1, type="videos")
    dataset = bench.call("datasets.add", projectId=project["id"], name="videos")
    source = bench.upload(clip)
    (made,) = bench.call("videos.bulk.add", datasetId=dataset["id"], videos=[{"title": clip.name, "id": source}])
    return int(made["id"])
