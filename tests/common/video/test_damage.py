"""Damaged files: the frames that are there, a sentence about those that are not, and never a raw error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import FrameUnreadable, VideoUnreadable
from common.video import scan
from common.video.contract import FrameSource
from common.video.reader import open_source
from common.video.structure import missing_bytes
from common.video.video_file import VideoFile
from tests.common.video.clips import X264, X264_B, encode, number

MADE = Path(__file__).resolve().parents[4] / "shared" / "data" / "video" / "made"


def reference(path: Path) -> tuple[list[int], bool]:
    """Numbers that plain decoding gives up to its first error, and whether there was one."""
    numbers: list[int] = []
    try:
        with av.open(str(path)) as container:
            numbers.extend(number(f.to_ndarray(format="rgb24")) for f in container.decode(video=0))
    except (av.error.FFmpegError, IndexError, EOFError):
        return numbers, True
    return numbers, False


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"this is not a video\n" * 50, "not a video"), (bytes(range(256)) * 40, "not a video")],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(VideoUnreadable, match=says) as error:
        open_source(tmp_path / "clip.mp4")
    assert "clip.mp4" in str(error.value) and "\n" not in str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(VideoUnreadable, match="no file"):
        open_source(tmp_path / "none.mp4")


def test_only_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoUnreadable, match="sound"):
        open_source(path)


FASTSTART = {"movflags": "+faststart"}


@pytest.mark.parametrize("budget", [scan.CHECK_WHOLE_PIXELS, 0])
@pytest.mark.parametrize(("name", "muxer"), [("a.mp4", FASTSTART), ("a.mkv", {}), ("a.avi", {})])
@pytest.mark.parametrize("share", [0.35, 0.6, 0.93])
def test_cut_off(
    tmp_path: Path, name: str, muxer: dict[str, str], share: float, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CHECK_WHOLE_PIXELS", budget)
    path = encode(tmp_path / name, 80, options=X264_B, muxer=muxer)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert missing_bytes(path) > 0
    source = open_source(path)
    expected, _ = reference(path)
    assert 0 < source.info.frames == len(expected) < 80
    assert source.info.damage is not None and name in source.info.damage
    _same_by_all_ways(source, expected)


def test_index_lost(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 40, options=X264)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(VideoUnreadable, match=r"a\.mp4"):
        open_source(path)


def test_a_broken_stretch_in_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sound beginning is taken from the packets, only the rest is decoded at opening."""
    monkeypatch.setattr(scan, "CHECK_WHOLE_PIXELS", 0)
    path = encode(tmp_path / "a.mp4", 120, options=X264_B, muxer=FASTSTART)
    data = bytearray(path.read_bytes())
    at = int(len(data) * 0.7)
    data[at : at + 700] = random.Random(3).randbytes(700)
    path.write_bytes(data)
    source = VideoFile(path)
    expected, failed = reference(path)
    assert failed and 40 < len(expected) < 120
    assert source.info.frames == len(expected)
    assert source.info.damage is not None and str(len(expected)) in source.info.damage
    assert 0 < source._index.checked_from < len(expected)
    _same_by_all_ways(source, expected)


def test_damage_that_is_met_while_streaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a long file a fault inside one packet is not looked for at opening; the frame is named when it is reached."""
    monkeypatch.setattr(scan, "CHECK_WHOLE_PIXELS", 0)
    path = encode(tmp_path / "a.mp4", 60, options=X264, gop=12)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    victim = packets[30]
    assert victim.pos is not None
    data[victim.pos + 5 : victim.pos + victim.size] = b"\xff" * (victim.size - 5)
    path.write_bytes(data)
    source = VideoFile(path)
    assert source.info.frames == 60
    got: list[int] = []
    with pytest.raises(FrameUnreadable) as error:
        got.extend(number(i) for i in source.stream(0, 60))
    assert got == list(range(error.value.index)) and 29 <= error.value.index <= 30
    assert number(source.read(40)) == 40
    back: list[int] = []
    with pytest.raises(FrameUnreadable) as error:
        back.extend(number(i) for i in source.stream(40, 10))
    assert len(back) == 40 - error.value.index and back[:5] == [40, 39, 38, 37, 36]


def test_transport_stream_that_starts_in_the_middle(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", 60, "mpeg2video", gop=12)
    data = path.read_bytes()
    start = len(data) // 3 // 188 * 188
    path.write_bytes(data[start:])
    source = VideoFile(path)
    numbers = [number(i) for i in source.stream(0, source.info.frames)]
    assert 20 < len(numbers) < 60 and numbers[-1] == 59
    assert [number(source.read(i)) for i in range(len(numbers))] == numbers


KINDS = [("a.mp4", X264_B, FASTSTART), ("a.mkv", X264_B, {}), ("a.ts", X264, {}), ("a.avi", X264, {})]


@pytest.mark.parametrize(("name", "options", "muxer"), KINDS)
def test_any_damage_gives_frames_or_a_sentence(
    tmp_path: Path, name: str, options: dict[str, str], muxer: dict[str, str]
) -> None:
    clip = encode(tmp_path / name, 40, options=options, muxer=muxer)
    sound = clip.read_bytes()
    chance = random.Random(name)
    opened = 0
    for trial in range(12):
        data, at = bytearray(sound), chance.randrange(len(sound))
        length = chance.choice([1, 20, 500])
        match trial % 4:
            case 0:
                del data[at:]
            case 1:
                del data[at : at + length]
            case 2:
                data[at : at + length] = chance.randbytes(len(data[at : at + length]))
            case _:
                data[at : at + length] = bytes(len(data[at : at + length]))
        clip.write_bytes(data)
        try:
            source = open_source(clip)
        except VideoUnreadable as error:
            assert name in str(error) and "\n" not in str(error)
            continue
        opened += 1
        expected, failed = reference(clip)
        if expected:
            assert source.info.frames == len(expected)
        assert not failed or source.info.damage
        images = list(source.stream(0, source.info.frames))
        back = list(source.stream(source.info.frames - 1, -1))
        assert len(images) == len(back) == source.info.frames
        with pytest.raises(FrameUnreadable):
            source.read(source.info.frames)
        source.close()
    assert opened >= 3


def _same_by_all_ways(source: FrameSource, expected: list[int]) -> None:
    count = len(expected)
    assert [number(i) for i in source.stream(0, count)] == expected
    assert [number(i) for i in source.stream(count - 1, -1)] == expected[::-1]
    assert [number(source.read(i)) for i in range(count - 1, -1, -9)] == expected[::-9]
    with pytest.raises(FrameUnreadable) as error:
        source.read(count)
    assert error.value.index == count


def _shared_code(image: np.ndarray) -> int:
    """The number in the shared files: a white and a black block, then 12 bits, along the top."""
    width, height = max(1, image.shape[1] // 14), max(1, image.shape[0] // 8)
    strip = image[height // 4 : max(height // 4 + 1, 3 * height // 4)].mean((0, 2))
    blocks = [
        strip[i * width + width // 4 : max(i * width + width // 4 + 1, i * width + 3 * width // 4)].mean()
        for i in range(14)
    ]
    return -1 if blocks[0] <= 150 or blocks[1] >= 100 else sum(1 << i for i in range(12) if blocks[i + 2] > 127)


@pytest.mark.skipif(not MADE.is_dir(), reason=f"the shared decoder files are not here ({MADE.name})")
def test_the_shared_files_give_what_their_manifest_says() -> None:
    manifest = json.loads((MADE / "manifest.json").read_text())
    for name, entry in manifest.items():
        if entry["expect"] == "error":
            with pytest.raises(VideoUnreadable) as error:
                open_source(MADE / name)
            assert name in str(error.value) and "\n" not in str(error.value), name
            continue
        source = VideoFile(MADE / name)
        info, known = source.info, entry["reference"]
        turned = info.rotation // 90
        assert info.frames == known["frames"], name
        assert (info.damage is not None) == (entry["expect"] == "partial"), name
        assert {info.rotation, 360 - info.rotation} & {entry.get("rotation", 0)}, name
        size = (info.height, info.width) if turned % 2 else (info.width, info.height)
        assert size == (known["width"], known["height"]), name
        assert np.allclose(source.times(), known["pts"], atol=1e-5), name
        if min(size) > 16 and info.frames < 1000:
            back = [_shared_code(np.rot90(i, turned)) for i in source.stream(info.frames - 1, -1)]
            assert back[::-1] == known["codes"], name
            sample = range(0, info.frames, 41)
            assert [_shared_code(np.rot90(source.read(i), turned)) for i in sample] == known["codes"][::41], name
        source.close()
