"""Frames that cannot be had are named and passed over."""

import pytest

from common.errors import FrameUnreadable
from common.video.numbered import numbered
from tests.common.tracking.toys import DotVideo


@pytest.mark.parametrize(
    ("start", "stop", "broken"),
    [(0, 9, []), (0, 9, [4]), (0, 9, [0, 8]), (8, -1, [0, 3, 4]), (8, 2, [8]), (5, 5, []), (0, 3, [0, 1, 2])],
)
def test_every_frame_comes_once_in_order(start, stop, broken):
    given = list(numbered(DotVideo(9, broken), start, stop))
    assert [number for number, _ in given] == list(range(start, stop, 1 if stop > start else -1))
    assert [number for number, image in given if isinstance(image, FrameUnreadable)] == [
        n for n, _ in given if n in broken
    ]
    assert all(image[7, n % 50, 0] == 200 for n, image in given if not isinstance(image, FrameUnreadable))
