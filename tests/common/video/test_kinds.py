"""Every kind of sound file gives exactly its frames: by number, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import FrameUnreadable
from common.video import scan
from common.video.video_file import VideoFile
from tests.common.video.clips import X264, X264_B, encode, number, picture


def _in_a_thread(make: Callable[[], Path]) -> Path:
    """As `make` gives it. libsvtav1 takes the highest real-time priority for the thread that it is called in where it
    may (as root), and keeps it: a thread that ends here, not the one that all later tests and their processes get it from.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


_JITTER = np.cumsum([0, *([20, 33, 40, 67, 100, 250] * 8)]).tolist()

KINDS: dict[str, Callable[[Path], Path]] = {
    "plain": lambda d: encode(d / "a.mp4", 40, options=X264),
    "bframes": lambda d: encode(d / "a.mp4", 50, options=X264_B),
    "open_gop": lambda d: encode(
        d / "a.mp4", 60, options=X264_B | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:b-pyramid=normal"}
    ),
    "intra_refresh": lambda d: encode(d / "a.mp4", 60, options=X264 | {"intra-refresh": "1"}, gop=10),
    "one_key_frame": lambda d: encode(d / "a.mp4", 120, options=X264_B, gop=1000),
    "every_frame_key": lambda d: encode(d / "a.mp4", 40, options=X264, gop=1),
    "variable_mp4": lambda d: encode(d / "a.mp4", 49, options=X264_B, stamps=_JITTER),
    "variable_mkv": lambda d: encode(d / "a.mkv", 49, options=X264_B, stamps=_JITTER),
    "hole_of_a_minute": lambda d: encode(d / "a.mp4", 20, options=X264, stamps=[40 * i + 60000 * (i > 9) for i in range(20)]),
    "starts_late": lambda d: encode(d / "a.mkv", 30, options=X264_B, stamps=[7000 + 40 * i for i in range(30)]),
    "fragmented_mp4": lambda d: encode(
        d / "a.mp4", 40, options=X264_B, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    ),
    "ts_h264": lambda d: encode(d / "a.ts", 40, options=X264_B),
    "ts_mpeg2": lambda d: encode(d / "a.ts", 40, "mpeg2video", bframes=2),
    "program_stream": lambda d: encode(d / "a.mpg", 40, "mpeg2video", bframes=2),
    "avi_mpeg4_b": lambda d: encode(d / "a.avi", 50, "mpeg4", bframes=2),
    "avi_h264_b": lambda d: encode(d / "a.avi", 50, options=X264_B),
    "avi_mjpeg": lambda d: encode(d / "a.avi", 20, "mjpeg", "yuvj420p"),
    "raw_h264": lambda d: encode(d / "a.h264", 40, options=X264_B),
    "flv": lambda d: encode(d / "a.flv", 40, options=X264_B),
    "ffv1": lambda d: encode(d / "a.mkv", 20, "ffv1"),
    "gif": lambda d: encode(d / "a.gif", 24, "gif", "rgb8", rate=10),
    "ten_bit": lambda d: encode(d / "a.mp4", 30, pix_fmt="yuv420p10le", options=X264),
    "grey": lambda d: encode(d / "a.mp4", 30, pix_fmt="gray", options=X264),
    "odd_size": lambda d: encode(d / "a.mp4", 30, pix_fmt="yuv444p", options=X264, size=(101, 67)),
    "one_frame": lambda d: encode(d / "a.mp4", 1, options=X264),
    "wrong_ending": lambda d: encode(d / "a.avi", 30, options=X264_B, format="matroska"),
    "strange_name": lambda d: encode(d / "a:b 100% ü%03d.mp4", 12, options=X264, format="mp4"),
    "vp8_hidden": lambda d: encode(d / "a.webm", 40, "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "8", "b": "300k", "cpu-used": "8"}),
    "vp9": lambda d: encode(d / "a.webm", 30, "libvpx-vp9", options={"b": "300k", "cpu-used": "8", "row-mt": "0"}),
    "av1": lambda d: _in_a_thread(lambda: encode(d / "a.mp4", 16, "libsvtav1", options={"preset": "12", "crf": "30"})),
    "hevc_open": lambda d: encode(d / "a.mp4", 30, "libx265", options={"preset": "ultrafast", "x265-params": "log-level=none:keyint=10:bframes=3"}),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return KINDS[request.param](tmp_path_factory.mktemp(request.param))
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this build of FFmpeg cannot make it: {error}")


@pytest.mark.parametrize("budget", [scan.CHECK_WHOLE_PIXELS, 0], ids=["checked whole", "by packets"])
def test_the_frames_of_every_kind(clip: Path, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHECK_WHOLE_PIXELS", budget)
    source = VideoFile(clip)
    info, count = source.info, source.info.frames
    with av.open(f"file:{clip}") as container:
        expected = [number(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert expected == list(range(len(expected)))
    assert count == len(expected)
    assert info.damage is None
    images = list(source.stream(0, count))
    assert [number(i) for i in images] == expected
    assert images[0].shape == (info.height, info.width, 3)
    assert images[0].dtype == np.uint8 and images[0].flags["C_CONTIGUOUS"]
    back = list(source.stream(count - 1, -1))
    order = [(i * 7) % count for i in range(min(count, 25))]
    again = [source.read(i) for i in order]
    assert all(np.array_equal(a, b) for a, b in zip(images, reversed(back), strict=True))
    assert all(np.array_equal(a, images[i]) for a, i in zip(again, order, strict=True))
    times = source.times()
    assert times.shape == (count,) and (np.diff(times) > 0).all()
    assert source.pts(count - 1) == pytest.approx(times[-1])
    for beyond in (-1, count, count + 5):
        with pytest.raises(FrameUnreadable) as error:
            source.read(beyond)
        assert error.value.index == beyond
    source.close()


def test_time_of_a_variable_rate(tmp_path: Path) -> None:
    source = VideoFile(KINDS["variable_mp4"](tmp_path))
    assert np.allclose(source.times() * 1000, np.array(_JITTER), atol=1)
    assert source.info.fps == pytest.approx(48 / (source.pts(48) - source.pts(0)), rel=0.06)


@pytest.mark.parametrize("rate", [25, 30, 1])
def test_rate(tmp_path: Path, rate: int) -> None:
    assert VideoFile(encode(tmp_path / "a.mkv", 10, options=X264, rate=rate)).info.fps == pytest.approx(rate)


@pytest.mark.parametrize(("counterclockwise", "clockwise"), [(90, 270), (180, 180), (270, 90)])
def test_rotation_is_applied(tmp_path: Path, counterclockwise: int, clockwise: int) -> None:
    source = VideoFile(encode(tmp_path / "a.mp4", 5, options=X264, turn=counterclockwise))
    info = source.info
    assert info.rotation == clockwise
    assert (info.width, info.height) == ((64, 96) if clockwise % 180 else (96, 64))
    image = source.read(3)
    assert image.shape == (info.height, info.width, 3) and image.flags["C_CONTIGUOUS"]
    assert number(np.rot90(image, -counterclockwise // 90)) == 3


def test_mirrored_display_matrix(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 3, options=X264)
    data = bytearray(path.read_bytes())
    unit = (1 << 16).to_bytes(4, "big")
    at = data.index(b"tkhd") + 44
    assert data[at : at + 4] == unit
    data[at : at + 4] = (-(1 << 16)).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    source = VideoFile(path)
    assert number(source.read(2)[:, ::-1]) == 2
    assert source.info.rotation == 0


def test_first_of_two_videos_and_sound_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(20):
            for k, stream in enumerate(streams):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i + 1000 * k), format="rgb24")))
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
            noise.sample_rate = 8000
            container.mux(sound.encode(noise))
        for stream in (*streams, sound):
            container.mux(stream.encode(None))
    assert [number(i) for i in VideoFile(path).stream(0, 20)] == list(range(20))


def test_sar_is_left_alone(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", 3, options=X264 | {"x264-params": "sar=4/3"})
    assert (VideoFile(path).info.width, VideoFile(path).info.height) == (96, 64)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> VideoFile:
    return VideoFile(encode(tmp_path_factory.mktemp("long") / "a.mp4", 90, options=X264_B, gop=20))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 89), st.integers(-1, 89)), min_size=1, max_size=4))
def test_reads_and_streams_agree(long_clip: VideoFile, steps: list[tuple[bool, int, int]]) -> None:
    for read, start, stop in steps:
        if read:
            assert number(long_clip.read(start)) == start
        else:
            expected = list(range(start, stop, 1 if stop >= start else -1))
            assert [number(i) for i in long_clip.stream(start, stop)] == expected


def test_the_caller_may_change_what_it_gets(long_clip: VideoFile) -> None:
    long_clip.read(5)[:] = 0
    assert number(long_clip.read(5)) == 5


def test_a_stream_beyond_the_end_gives_all_there_is_first(long_clip: VideoFile) -> None:
    got: list[int] = []
    with pytest.raises(FrameUnreadable) as error:
        got.extend(number(i) for i in long_clip.stream(85, 100))
    assert got == [85, 86, 87, 88, 89] and error.value.index == 90
    assert list(long_clip.stream(4, 4)) == []


def test_huge_groups_go_backward_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.video.video_file.PIECE_FRAMES", 7)
    source = VideoFile(encode(tmp_path / "a.mp4", 60, options=X264_B, gop=1000))
    assert [number(i) for i in source.stream(55, 3)] == list(range(55, 3, -1))
