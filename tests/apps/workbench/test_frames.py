"""Pictures for the page: scaled without moving anything, and not made for those who have gone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

from apps.workbench.frames import Format, smaller
from tests.apps.workbench.annotator.browser import wait
from tests.apps.workbench.harness import Labelled, Served


@pytest.mark.parametrize(
    ("size", "width"),
    [
        ((64, 48), 32),
        ((1920, 1080), 1280),
        ((1921, 1081), 1280),
        ((3840, 2160), 1600),
        ((400, 300), 90),
        ((100, 3), 10),
    ],
)
def test_a_smaller_picture_shows_everything_where_it_was(size: tuple[int, int], width: int) -> None:
    columns, rows = size
    ramp = np.linspace(0, 255, columns)
    image = np.broadcast_to(np.round(ramp).astype(np.uint8)[None, :, None], (rows, columns, 3)).copy()
    small = smaller(image, width)
    assert small.shape == (max(1, round(rows * width / columns)), width, 3)
    centres = (np.arange(width) + 0.5) * columns / width - 0.5  # of the new pixels, among the old ones
    assert np.abs(small[..., 0] - np.interp(centres, np.arange(columns), ramp)).max() <= 1.5


def test_a_picture_that_is_no_wider_stays_as_it_is() -> None:
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert smaller(image, 4) is image


def test_a_picture_that_nobody_waits_for_is_not_made(
    served: Served, labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = served.bench.frames
    make, asked, go = frames.get, [], threading.Event()

    def slow(path: Path, index: int, format: Format = "png", width: int = 0) -> bytes:
        asked.append(index)
        assert go.wait(30)
        return make(path, index, format, width)

    monkeypatch.setattr(frames, "get", slow)
    address = f"videos/{labelled.video.id}/frames"
    with ThreadPoolExecutor(4) as pool:
        first = [pool.submit(served.own, "GET", f"{address}/{index}?width=40") for index in range(3)]
        wait(lambda: len(asked) == 3, "the making of three")
        with pytest.raises(requests.ReadTimeout):
            requests.get(
                f"{served.settings.address}/workbench/{address}/5?width=40", headers=served.headers, timeout=0.3
            )
        last = pool.submit(served.own, "GET", f"{address}/6?width=40")
        go.set()
        assert all(reply.result().ok for reply in [*first, last])
    assert sorted(asked) == [0, 1, 2, 6]
