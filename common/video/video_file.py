"""Frames out of a video file: any one by number, or streams in either direction, in bounded memory."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Lock

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from common.errors import FrameUnreadable
from common.video.contract import Image, VideoInfo
from common.video.demux import Demuxer, VideoPacket, fingerprint
from common.video.index import NO_TIME
from common.video.picture import Painter
from common.video.scan import scan

PIECE_FRAMES, PIECE_BYTES = 256, 256 << 20
"""Most frames, and most bytes of them, that streaming backward holds at a time."""

CACHE_BYTES = 96 << 20
"""Bytes of decoded frames kept around the last one read, so that stepping to and fro costs nothing."""

_SMALL_PIECE = 32
_LOST_AFTER = 64
"""Packets in a row that are not recognised after a seek before it is given up."""

Held = VideoFrame | Image
"""A frame as the decoder holds it, which is half the size; as RGB where decoding is not parallel."""

Frames = Generator[tuple[int, Held], None, None]


class VideoFile:
    """A `FrameSource` over a video file. Frames are counted in order of presentation; rotation is applied, pixels that
    are not square are left as stored.

    `read` may be called from several threads (they wait for each other); each `stream` has its own open file.
    Raises `VideoUnreadable` when the file is missing, empty, or holds no frame that can be decoded.
    """

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES) -> None:
        self._path = path
        self._index = scan(path)
        index = self._index
        width, height = index.orientation.size(index.width, index.height)
        self._info = VideoInfo(
            frames=len(index),
            width=width,
            height=height,
            fps=index.fps,
            rotation=index.orientation.rotation,
            name=path.name,
            damage=index.damage,
        )
        self._cache: OrderedDict[int, Held] = OrderedDict()
        self._cache_frames = max(2, cache_bytes // index.held_bytes)
        self._lock = Lock()
        self._painter = Painter(index.width, index.height, index.orientation)
        self._walk: Frames | None = None
        self._next = 0

    @property
    def info(self) -> VideoInfo:
        return self._info

    def times(self) -> NDArray[np.float64]:
        """When each frame is shown: float64 (frames,), seconds on the file's own clock, which need not begin at 0."""
        return self._index.seconds()

    def pts(self, index: int) -> float:
        """When frame `index` is shown, in seconds on the file's own clock. Raises `FrameUnreadable` beyond the end."""
        self._check(index)
        stamp = int(self._index.pts[index])
        if stamp == NO_TIME:
            return float(self._index.seconds()[index])
        return float(stamp * self._index.time_base)

    def read(self, index: int) -> Image:
        self._check(index)
        with self._lock:
            return self._painter.paint(self._cached(index))

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        backward = stop < start
        if start == stop:
            return
        self._check(start)
        painter = Painter(self._index.width, self._index.height, self._index.orientation)
        last = max(stop, -1) + 1 if backward else min(stop, len(self._index))
        frames = self._backward(start, last) if backward else (frame for _, frame in self._decode(start, last))
        for frame in frames:
            yield painter.paint(frame)
        if not backward and stop > last:
            self._check(last)

    def close(self) -> None:
        with self._lock:
            if self._walk is not None:
                self._walk.close()
            self._walk = None
            self._cache.clear()

    def _check(self, index: int) -> None:
        count = len(self._index)
        if not 0 <= index < count:
            why = f" {self._index.damage}" if self._index.damage else ""
            raise FrameUnreadable(
                f"{self._path.name} has frames 0 to {count - 1}; there is no frame {index}.{why}", index
            )

    def _cached(self, index: int) -> Held:
        """The frame, from the cache or decoded; the frames passed on the way stay in the cache."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        group = self._index.group_start(index)
        if self._walk is None or not group <= self._next <= index:
            if self._walk is not None:
                self._walk.close()
            self._next = max(group, index - self._cache_frames + 1)
            self._walk = self._decode(self._next, len(self._index))
        try:
            for found, frame in self._walk:
                self._next = found + 1
                self._keep(found, frame)
                if found == index:
                    return frame
        except FrameUnreadable as error:
            self._walk = None
            if error.index == index:
                raise
        # A frame on the way is damaged; ask for this one alone.
        self._walk = None
        _, frame = next(self._decode(index, index + 1))
        self._keep(index, frame)
        return frame

    def _keep(self, index: int, frame: Held) -> None:
        self._cache[index] = frame
        self._cache.move_to_end(index)
        while len(self._cache) > self._cache_frames:
            self._cache.popitem(last=False)

    def _backward(self, start: int, last: int) -> Iterator[Held]:
        """Frames start, start - 1 ... last. A piece is decoded forward and given out in reverse.

        A piece is one or several whole groups of pictures; of a group that is larger than the bounds, a part, for which
        the group is decoded again from its beginning.
        """
        most = max(1, min(PIECE_FRAMES, PIECE_BYTES // self._index.held_bytes))
        end = start + 1
        # One decoder for all pieces, so that it uses the memory of the last piece again for the next.
        with Demuxer(self._path, parallel=self._index.parallel) as demuxer:
            while end > last:
                begin = max(last, self._piece_start(end, most))
                held: list[Held] = []
                unreadable: FrameUnreadable | None = None
                while begin < end:
                    try:
                        for _, frame in self._decode_on(demuxer, begin, end):
                            held.append(frame)
                        break
                    except FrameUnreadable as error:
                        held.clear()
                        unreadable, begin = error, error.index + 1
                while held:
                    yield held.pop()
                if unreadable is not None:
                    raise unreadable
                end = begin

    def _piece_start(self, end: int, most: int) -> int:
        group = self._index.group_start(end - 1)
        if end - group > most:
            pieces = -(-(end - group) // most)
            return end - -(-(end - group) // pieces)
        # Short groups are taken several at a time: every piece costs a seek.
        while group > 0:
            earlier = self._index.group_start(group - 1)
            if end - earlier > min(most, _SMALL_PIECE):
                break
            group = earlier
        return group

    def _decode(self, first: int, last: int) -> Frames:
        """As `_decode_on`, with a file of its own."""
        with Demuxer(self._path, parallel=self._index.parallel) as demuxer:
            yield from self._decode_on(demuxer, first, last)

    def _decode_on(self, demuxer: Demuxer, first: int, last: int) -> Frames:
        """Frames first ... last - 1 in order, each for certain the one of its number.

        A frame that does not come, or comes with another picture than at the scan, is looked for again from earlier key
        frames: decoding can need more than the nearest one (intra refresh, damage). Raises `FrameUnreadable`.
        """
        index = self._index
        want, retry = first, 0
        entry = index.entry(first) if first < last else 0
        check = Painter(index.width, index.height, index.orientation)
        while want < last:
            came = False
            for source, frame in self._from(demuxer, entry):
                found = int(index.frame_of_packet[source])
                if index.packet_of_frame[want] == source:
                    # Frames that are held back keep the decoder from using their memory again, and what it makes
                    # of damage can depend on that; so only frames of parallel decoding are held as they are.
                    held: Held = frame if index.parallel else check.stored(frame)
                    # From the very beginning the packets alone say which frame it is; where the decoder had
                    # nothing to go by, the picture differs from one decoding to the next.
                    if (
                        entry
                        and want >= index.checked_from
                        and isinstance(held, np.ndarray)
                        and zlib.crc32(held.data) != index.checksum[want]
                    ):
                        continue
                    yield want, held
                    want, came, retry = want + 1, True, 0
                    if want == last:
                        return
                elif found > want:
                    break
            # Among sound packets a frame missing from the middle of a run stays missing.
            if entry == 0 or (index.sound and (came or retry > 2)):
                raise FrameUnreadable(
                    f"Frame {want} of {self._path.name} cannot be decoded: the file is damaged there. Frames before "
                    "it are fine; export or upload the video again to get the rest.",
                    want,
                )
            entry = index.before(entry, 1 << retry)
            retry += 1

    def _from(self, demuxer: Demuxer, entry: int) -> Iterator[tuple[int, VideoFrame]]:
        """All frames that decoding gives from packet `entry` on, with the packets they were coded in."""
        for ordinal, packet in self._packets(demuxer, entry):
            try:
                yield from demuxer.decode(packet, ordinal)
            except FFmpegError:
                continue
        try:
            yield from demuxer.decode(None, len(self._index.packets) - 1)
        except (FFmpegError, EOFError):
            return

    def _packets(self, demuxer: Demuxer, entry: int) -> Iterator[tuple[int, VideoPacket]]:
        """Packets from `entry` on with their ordinals: by a seek when the packets after it are recognised, else by
        reading the file from its beginning."""
        table = self._index.packets
        if entry and demuxer.seek(self._seek_time(entry)):
            packets = demuxer.packets()
            ordinal = -1
            for _, packet in zip(range(_LOST_AFTER), packets, strict=False):
                match = np.flatnonzero(table.fingerprint == fingerprint(packet))
                if len(match) == 1:
                    ordinal = int(match[0])
                    break
            if 0 <= ordinal <= entry:
                if ordinal == entry:
                    yield ordinal, packet
                for following in packets:
                    ordinal += 1
                    if ordinal >= len(table):
                        return
                    if ordinal >= entry:
                        yield ordinal, following
                return
        demuxer.rewind()
        for ordinal, packet in enumerate(demuxer.packets()):
            if ordinal >= len(table):
                return
            if ordinal >= entry:
                yield ordinal, packet

    def _seek_time(self, entry: int) -> int:
        table = self._index.packets
        stamps = [int(t) for t in (table.dts[entry], table.pts[entry]) if t != NO_TIME]
        return min(stamps, default=0)
