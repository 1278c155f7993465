"""Packets out of a video file, numbered, with every libav error turned into a sentence. The only place that opens one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from common.errors import VideoUnreadable

VideoPacket: TypeAlias = "Packet[VideoStream]"

_MAX_THREADS = 8
"""With frame threads the decoder holds one picture per thread, so the number is bounded whatever the machine."""


class Demuxer:
    """An open file and its first real video stream (cover art is not a video).

    parallel: decode several frames at once. False: threads within a frame only, which is what makes the decoder's
    concealment of damage repeatable. strict: refuse damaged packets that the decoder would otherwise paper over.
    """

    def __init__(self, path: Path, parallel: bool = True, strict: bool = False) -> None:
        self.path = path
        self._parallel, self._strict = parallel, strict
        self._open()

    def _open(self) -> None:
        self._container = _open(self.path)
        try:
            self.stream = _first_video(self._container, self.path)
        except VideoUnreadable:
            self._container.close()
            raise
        self._fresh, self.broken = True, False
        context = self.stream.codec_context
        context.copy_opaque = True
        if self._strict:
            context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        context.thread_type = "AUTO" if self._parallel else "SLICE"
        if self._parallel:
            context.thread_count = min(os.cpu_count() or 1, _MAX_THREADS)

    def rewind(self) -> None:
        """To the very first packet, decoder empty; by opening anew, since seeking there is not exact everywhere."""
        if not self._fresh:
            self.close()
            self._open()

    def packets(self) -> Iterator[VideoPacket]:
        """From where the file stands to its end. An error of the file ends the packets too, and sets `broken`."""
        self._fresh = False
        try:
            yield from (packet for packet in self._container.demux(self.stream) if packet.size)
        except (FFmpegError, EOFError):
            self.broken = True

    def seek(self, timestamp: int) -> bool:
        """To the last key frame at or before `timestamp` (stream time base), or thereabouts. False: cannot be done."""
        self._fresh = False
        try:
            self._container.seek(timestamp, stream=self.stream, backward=True)
        except (FFmpegError, OverflowError):
            return False
        return True

    def decode(self, packet: VideoPacket | None, ordinal: int) -> list[tuple[int, VideoFrame]]:
        """Feed one packet (None: no more will come) and get the frames that came out, each with its packet's ordinal.

        Raises FFmpegError when the decoder cannot make sense of the packet.
        """
        if packet is not None:
            # A fresh tuple: the binding files the object under its address, and small integers share theirs.
            packet.opaque = (ordinal,)
        frames: list[tuple[int, VideoFrame]] = []
        for frame in self.stream.codec_context.decode(packet):
            tag = frame.opaque
            frames.append((tag[0] if isinstance(tag, tuple) else ordinal, frame))
        return frames

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fingerprint(packet: VideoPacket) -> int:
    """What tells a packet from its neighbours again after a seek, as a signed 64-bit number.

    Time stamps are left out: some containers make them up from what was read before.
    """
    head = bytes(memoryview(packet)[:96])
    return hash((packet.pos if packet.pos is not None else -1, packet.size, zlib.crc32(head)))


def _open(path: Path) -> InputContainer:
    name = path.name
    if not path.exists():
        raise VideoUnreadable(f"There is no file or folder {str(path)!r}. Check the path.")
    if not path.is_file():
        raise VideoUnreadable(f"{name} is neither a video file nor a folder of images.")
    if path.stat().st_size == 0:
        raise VideoUnreadable(f"{name} is empty (0 bytes). Copy or upload the video again.")
    try:
        # "file:" keeps a colon in a name from being taken for a protocol; the whitelist keeps play lists from
        # reaching out to the network.
        return av.open(f"file:{path}", "r", container_options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except PermissionError as error:
        raise VideoUnreadable(f"{name} may not be read: no permission.") from error
    except (FFmpegError, OSError, ValueError) as error:
        raise VideoUnreadable(
            f"{name} is not a video that can be opened: it is damaged, was cut off before its index was written, or is "
            "something else. Export or upload it again, or convert it to MP4 (H.264)."
        ) from error


def _first_video(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        # The stubs leave it out, but a codec that this build cannot decode has no context.
        if getattr(stream, "codec_context", None) is None:
            raise VideoUnreadable(
                f"{path.name} uses a video codec that cannot be decoded here. Convert it to MP4 (H.264)."
            )
        return stream
    raise VideoUnreadable(f"{path.name} has no pictures in it (no video stream, perhaps only sound).")
