"""What an uploaded video has inside, in the shape in which the SDK reads it.

Frame count, size and times come from `common.video`, which also serves the frames: the numbers a tracker plans with are
those of the frames it will get.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from apps.workbench.store.errors import Refused
from common.errors import VideoUnreadable
from common.video.contract import VideoInfo
from common.video.reader import open_source
from common.video.video_file import VideoFile

_MIME = {"mov": "video/mp4", "matroska": "video/x-matroska", "avi": "video/x-msvideo", "mpegts": "video/mp2t"}
_TEXT_SNIFF = 512


def probe(path: Path, name: str) -> dict[str, Any]:
    """Metadata of a video file: {"streams": [{...}], "formatName", "mime", "size", "duration"}.

    One stream of pictures is listed, the one that is served, and after it the sound. name: what errors call the file.
    Raises `Refused` when no frame can be had from the file.
    """
    _refuse_text(path, name)
    try:
        source = open_source(path)
    except VideoUnreadable as error:
        raise Refused(str(error).replace(path.name, name)) from error
    try:
        times = source.times().tolist() if isinstance(source, VideoFile) else None
        info = source.info
    finally:
        source.close()
    with av.open(
        f"file:{path}", "r", container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
    ) as file:
        format_name = file.format.name
        pictures = file.streams.video[0]
        picture = {
            "index": pictures.index,
            "codecType": "video",
            "codecName": pictures.codec_context.name,
            "startTime": 0,
            **_times(info, times),
            "width": info.width,
            "height": info.height,
            "framesCount": info.frames,
            "rotation": info.rotation,
        }
        sound = [_sound(stream) for stream in file.streams.audio]
    mime = next((mime for key, mime in _MIME.items() if key in format_name), "video/mp4")
    if "webm" in format_name and picture["codecName"] in {"vp8", "vp9", "av1", "libdav1d"}:
        mime = "video/webm"
    return {
        "streams": [picture, *sound],
        "formatName": format_name,
        "mime": mime,
        "size": str(path.stat().st_size),
        "duration": picture["duration"],
    }


def _times(info: VideoInfo, times: list[float] | None) -> dict[str, Any]:
    """Seconds of each frame from the first one on, and the duration with the last frame's own share."""
    step = 1.0 / info.fps if info.fps > 0 else 0.0
    if not times:
        times = [index * step for index in range(info.frames)]
    codes = [round(time - times[0], 6) for time in times]
    return {"framesToTimecodes": codes, "duration": round(codes[-1] + step, 6)}


def _sound(stream: av.AudioStream) -> dict[str, Any]:
    try:
        codec = stream.codec_context.name
    except (AttributeError, FFmpegError):  # a codec this build does not know; its sound is never decoded here
        codec = "unknown"
    return {"index": stream.index, "codecType": "audio", "codecName": codec}


def _refuse_text(path: Path, name: str) -> None:
    """No video is plain text, but play lists are, and they make a demuxer open other files of this machine."""
    with path.open("rb") as file:
        head = file.read(_TEXT_SNIFF)
    if not head:
        raise Refused(f"{name} is empty (0 bytes). Upload the video again.")
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        raise Refused(f"{name} is text, not a video.")
