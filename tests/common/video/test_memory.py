"""Memory does not depend on how many frames are streamed, forward or backward."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.common.video.clips import X264, encode, number

ROOT = Path(__file__).resolve().parents[3]

_STREAM = """
import sys, resource
from common.video.reader import open_source
source = open_source(sys.argv[1])
count = sum(1 for _ in source.stream(int(sys.argv[2]), int(sys.argv[3])))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("memory")
    return {n: encode(folder / f"{n}.mp4", n, options=X264, gop=250) for n in (300, 3000)}


def _peak(path: Path, start: int, stop: int) -> int:
    """Peak resident kilobytes of a process of its own that streams the frames."""
    done = subprocess.run(
        [sys.executable, "-c", _STREAM, str(path), str(start), str(stop)], cwd=ROOT, capture_output=True, check=True
    )
    count, peak = (int(word) for word in done.stdout.split())
    assert count == abs(stop - start)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
def test_peak_memory_does_not_grow(clips: dict[int, Path], backward: bool) -> None:
    short, long = (_peak(p, n - 1, -1) if backward else _peak(p, 0, n) for n, p in clips.items())
    assert long < short * 1.05


def test_every_frame_of_a_long_file(clips: dict[int, Path]) -> None:
    from common.video.video_file import VideoFile

    source = VideoFile(clips[3000])
    assert [number(i) for i in source.stream(2999, -1)] == list(range(2999, -1, -1))
    assert [number(source.read(i)) for i in range(0, 3000, 333)] == list(range(0, 3000, 333))
