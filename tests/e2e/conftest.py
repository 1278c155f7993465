"""One suite for all tests of this folder, a short clip and a long one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scene import write_clip
from tests.e2e.suite import Clip, Suite

SHORT, LONG = 30, 1010


@pytest.fixture(scope="session", autouse=True)
def _sdk_speaks_plain_http() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "true")
        yield


@pytest.fixture(scope="package")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with Suite(tmp_path_factory.mktemp("e2e") / "data") as running:
        yield running


@pytest.fixture(scope="package")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("short") / "clip.mp4", SHORT)


@pytest.fixture(scope="package")
def clip(suite: Suite, video: Path) -> Clip:
    return suite.upload(video, "short", SHORT)


@pytest.fixture(scope="package")
def long_clip(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return suite.upload(write_clip(tmp_path_factory.mktemp("long") / "long.mp4", LONG), "long", LONG)
