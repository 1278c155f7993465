"""One workbench and one app with the real trackers, for all tests that need no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.workbench.settings import Settings
from tests.apps.workbench.harness import Running, Served, free_port
from tests.common.serving.stage import AppRunning, Client, Stage, write_clip


@pytest.fixture(scope="session", autouse=True)
def _sdk_speaks_plain_http() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "true")
        yield


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Running(Settings(tmp_path_factory.mktemp("bench") / "data", port=free_port(), faults=True)) as it:
        yield it


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="package")
def stage(served: Served, clip: Path) -> Stage:
    return Stage(served, clip)


@pytest.fixture(scope="package")
def client(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with AppRunning(served, tmp_path_factory.mktemp("app")) as it:
        yield it
