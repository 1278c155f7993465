"""The workbench and the clip that the tests of tracker apps share, and a detector app that listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.detector.main import CONFIG
from tests.apps.detector.harness import BrightDetector, DetectorRunning
from tests.apps.workbench.harness import Served
from tests.common.serving.conftest import _sdk_speaks_plain_http, clip, served, stage
from tests.common.serving.stage import Client

__all__ = ["_sdk_speaks_plain_http", "clip", "served", "stage"]


@pytest.fixture(scope="package")
def app(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with DetectorRunning(served, tmp_path_factory.mktemp("detector"), CONFIG) as client:
        yield client


@pytest.fixture
def slow_app(served: Served, tmp_path: Path) -> Iterator[Client]:
    """Its detector takes a tenth of a second for a frame."""
    slow = BrightDetector(pause_s=0.1)
    with DetectorRunning(served, tmp_path, CONFIG, lambda _: slow) as client:
        yield client
