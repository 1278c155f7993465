"""Overlays out, and decoding ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import FrameUnreadable, OutputUnusable
from common.video.prefetch import prefetch
from common.video.video_file import VideoFile
from common.video.writer import VideoWriter
from tests.common.video.clips import number, picture


@pytest.mark.parametrize(("width", "height"), [(96, 64), (97, 65), (5, 7)])
@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 0.0, float("nan")])
def test_what_is_written_comes_back(tmp_path: Path, width: int, height: int, fps: float) -> None:
    path = tmp_path / "overlay.mp4"
    with VideoWriter(path, width, height, fps) as writer:
        for n in range(30):
            writer.write(picture(n, width, height))
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["overlay.mp4"]
    source = VideoFile(path)
    assert source.info.fps == pytest.approx(fps if fps > 0 else 25.0, rel=1e-4)
    assert (source.info.width, source.info.height) == (max(16, width + width % 2), max(16, height + height % 2))
    if width > 16:
        assert [number(i[:height, :width]) for i in source.stream(0, 30)] == list(range(30))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_colours_stay(tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:] = (200, 60, 30)
    with VideoWriter(tmp_path / "a.mp4", 96, 64, 25) as writer:
        for _ in range(5):
            writer.write(image)
    assert np.abs(VideoFile(tmp_path / "a.mp4").read(2).astype(int) - (200, 60, 30)).max() <= 4


def test_nothing_appears_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError), VideoWriter(path, 96, 64, 25) as writer:
        writer.write(picture(0))
        raise RuntimeError
    with VideoWriter(path, 96, 64, 25):
        pass
    assert path.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(OutputUnusable, match="cannot be written"):
        VideoWriter(tmp_path / "none" / "a.mp4", 96, 64, 25)
    with VideoWriter(tmp_path / "a.mp4", 96, 64, 25) as writer:
        for wrong in (picture(0, 64, 96), picture(0).astype(np.float32), picture(0)[..., 0]):
            with pytest.raises(ValueError, match="picture"):
                writer.write(wrong)


def _threads() -> int:
    return sum(t.name.startswith("prefetch") for t in threading.enumerate())


def test_prefetch_keeps_order_and_stays_ahead_by_no_more_than_asked() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    for got in (ahead := prefetch(items(), 3)):
        assert len(made) <= got + 1 + 3
        if got == 10:
            time.sleep(0.05)
            assert len(made) >= 12
    assert made == list(range(50)) and list(ahead) == [] and _threads() == 0


def test_prefetch_passes_errors_on_in_their_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise FrameUnreadable("broken", 2)

    got: list[int] = []
    with pytest.raises(FrameUnreadable, match="broken"):
        got.extend(prefetch(items(), 8))
    assert got == [1, 2] and _threads() == 0


def test_prefetch_stops_cleanly_when_left_early() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    for got in prefetch(items(), 4):
        if got == 5:
            break
    assert closed.wait(5) and _threads() == 0
    with pytest.raises(ValueError, match="ahead"):
        prefetch(iter([1]), 0)
