"""Opening: from a file to its frame index, by packets where they tell the truth, by decoding where they may not."""

from __future__ import annotations

import zlib
from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from common.errors import VideoUnreadable
from common.video.demux import Demuxer, fingerprint
from common.video.index import NO_TIME, FrameIndex, PacketTable
from common.video.picture import Orientation, Painter
from common.video.structure import missing_bytes, nal_length_size, nal_units_add_up

CHECK_WHOLE_PIXELS = 32 << 20
"""Videos of fewer pixels in all are decoded once at opening, a fraction of a second; larger ones only where suspect."""

_ONE_FRAME_PER_PACKET = frozenset(
    name
    for names in (
        "h264 hevc vvc av1 libdav1d vp9 theora",
        "mpeg4 mpeg1video mpeg2video h263 msmpeg4v2 msmpeg4v3",
        "mjpeg prores dnxhd cfhd jpeg2000 dvvideo",
        "ffv1 ffvhuff huffyuv utvideo png rawvideo",
    )
    for name in names.split()
)
"""Decoders that give one shown frame for each packet. Not VP8 (invisible packets), GIF (frames build on all before)."""

_SILENT = frozenset(("hevc", "ffv1"))
"""Decoders that paper over damage even when told to refuse it. It shows in that two decodings give other pictures."""

_TRIAL_FRAMES, _TRIAL_PACKETS = 12, 48


@dataclass
class _Decoded:
    """What decoding found, frame by frame in output order."""

    packet: array[int] = field(default_factory=lambda: array("i"))
    pts: array[int] = field(default_factory=lambda: array("q"))
    checksum: array[int] = field(default_factory=lambda: array("I"))
    flagged: int = 0
    first_flagged: int = -1
    failed: bool = False
    first: VideoFrame | None = None

    def note(self, source: int, frame: VideoFrame) -> None:
        if frame.is_corrupt:
            if not self.flagged:
                self.first_flagged = len(self.packet)
            self.flagged += 1
        self.packet.append(source)
        self.pts.append(NO_TIME if frame.pts is None else frame.pts)
        if self.first is None:
            self.first = frame


@dataclass(frozen=True)
class _Header:
    """What the container announces."""

    codec: str
    frames: int
    rate: float
    missing: int
    width: int
    height: int
    last_duration: int
    time_base: Fraction


def scan(path: Path) -> FrameIndex:
    """The index of the file's first video. Raises `VideoUnreadable` when not one frame can be had from it."""
    table, header = _packet_table(path)
    if not len(table):
        raise VideoUnreadable(
            f"{path.name} holds no frames: the file is damaged or was cut off. Export or upload it again."
        )
    plain = (
        header.codec in _ONE_FRAME_PER_PACKET and table.ordered and bool(table.key[0]) and bool((~table.hidden).any())
    )
    first_suspect = int(np.argmax(table.suspect)) if table.suspect.any() else len(table)
    whole = first_suspect == len(table) and header.frames <= len(table) and not header.missing
    small = len(table) * header.width * header.height <= CHECK_WHOLE_PIXELS
    order = table.shown() if plain else np.zeros(0, np.int32)
    fault = -1
    if plain and whole:
        trial = _try(path, table, *((None, None) if small else (_TRIAL_FRAMES, _TRIAL_PACKETS)))
        seen = np.array(trial.packet, np.int32)
        expected = order if small else order[: len(seen)]
        if trial.first is not None and not trial.failed and not trial.flagged and np.array_equal(seen, expected):
            fault = _silent_fault(path, table) if small and header.codec in _SILENT else -1
            if fault < 0:
                return _index(path, table, header, order, trial, len(order))
        elif trial.failed:
            fault = len(seen)
    begin = 0
    if plain and not small:
        # Up to two groups before the first suspect packet (or the end) the packets can be believed.
        keys = np.flatnonzero(table.key[:first_suspect])
        rank = np.full(len(table), -1, np.int64)
        rank[order] = np.arange(len(order))
        keys = keys[rank[keys] >= 0]
        begin = int(keys[-2]) if len(keys) > 1 else 0
    if plain and begin:
        trial = _try(path, table, _TRIAL_FRAMES, _TRIAL_PACKETS)
        seen = np.array(trial.packet, np.int32)
        lead = int(rank[begin])
        if trial.first is not None and np.array_equal(seen, order[: len(seen)]) and not trial.failed:
            return _joined(path, table, header, order[:lead], trial, _decode(path, table, begin), rank)
    decoded = _decode(path, table, 0)
    if decoded.first is None:
        raise VideoUnreadable(
            f"Not one frame of {path.name} can be decoded: its picture data is damaged or incomplete. Export or upload "
            "it again, or convert it to MP4 (H.264)."
        )
    if fault >= 0 and not decoded.failed and not decoded.flagged:
        decoded.flagged, decoded.first_flagged = 1, min(fault, len(decoded.packet) - 1)
    return _index(path, table, header, np.array(decoded.packet, np.int32), decoded, 0)


def _joined(
    path: Path,
    table: PacketTable,
    header: _Header,
    lead: NDArray[np.int32],
    trial: _Decoded,
    decoded: _Decoded,
    rank: NDArray[np.int64],
) -> FrameIndex:
    """Frames of the sound beginning by packets, the rest as decoded (less the leading pictures that are in both)."""
    found = np.array(decoded.packet, np.int32)
    new = (rank[found] >= len(lead)) | (rank[found] < 0)
    both = np.concatenate((lead, found[new]))
    joined = _Decoded(
        pts=array("q", np.concatenate((table.pts[lead], np.array(decoded.pts, np.int64)[new])).tobytes()),
        checksum=array(
            "I", np.concatenate((np.zeros(len(lead), np.uint32), np.array(decoded.checksum, np.uint32)[new])).tobytes()
        ),
        flagged=decoded.flagged,
        first_flagged=decoded.first_flagged + len(lead),
        failed=decoded.failed,
        first=trial.first,
    )
    return _index(path, table, header, both, joined, len(lead))


def _packet_table(path: Path) -> tuple[PacketTable, _Header]:
    marks, pts, dts = array("q"), array("q"), array("q")
    flags = bytearray()
    last_duration, last_pts = 0, NO_TIME
    with Demuxer(path) as demuxer:
        stream = demuxer.stream
        context, time_base = stream.codec_context, stream.time_base
        if time_base is None:
            raise VideoUnreadable(f"{path.name} has no clock. Convert it to MP4 (H.264).")
        codec = context.name
        length_size = nal_length_size(codec, context.extradata)
        for packet in demuxer.packets():
            marks.append(fingerprint(packet))
            pts.append(NO_TIME if packet.pts is None else packet.pts)
            dts.append(NO_TIME if packet.dts is None else packet.dts)
            bad = packet.is_corrupt or (
                length_size > 0 and not nal_units_add_up(memoryview(packet), length_size, codec)
            )
            flags.append(packet.is_keyframe | packet.is_discard << 1 | bad << 2)
            if pts[-1] >= last_pts and packet.duration:
                last_pts, last_duration = pts[-1], packet.duration
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        header = _Header(
            codec=codec,
            frames=stream.frames,
            rate=rate,
            missing=missing_bytes(path),
            width=context.width,
            height=context.height,
            last_duration=last_duration,
            time_base=time_base,
        )
    bits = np.frombuffer(bytes(flags), np.uint8)
    table = PacketTable(
        np.array(marks, np.int64),
        np.array(pts, np.int64),
        np.array(dts, np.int64),
        (bits & 1) != 0,
        (bits & 2) != 0,
        (bits & 4) != 0,
    )
    return table, header


def _try(path: Path, table: PacketTable, most_frames: int | None, most_packets: int | None) -> _Decoded:
    """Decode from the beginning as reading will, but refusing the slightest fault; which packets the frames came from."""
    found = _Decoded()
    with Demuxer(path, parallel=False, strict=True) as demuxer:
        try:
            for ordinal, packet in enumerate(demuxer.packets()):
                if ordinal >= (most_packets or len(table)):
                    break
                for source, frame in demuxer.decode(packet, ordinal):
                    found.note(source, frame)
                if most_frames and len(found.packet) >= most_frames:
                    break
            for source, frame in () if most_packets else demuxer.decode(None, len(table) - 1):
                found.note(source, frame)
        except FFmpegError:
            found.failed = True
    del found.packet[most_frames or len(table) :]
    return found


def _silent_fault(path: Path, table: PacketTable) -> int:
    """First frame that decoding in another way gives another picture of; -1: none."""
    one, other = (np.array(_decode(path, table, 0, parallel).checksum) for parallel in (False, True))
    if len(one) != len(other):
        return min(len(one), len(other))
    differs = one != other
    return int(np.argmax(differs)) if differs.any() else -1


def _decode(path: Path, table: PacketTable, begin: int, parallel: bool = False) -> _Decoded:
    """Decode from packet `begin` to the end, or to the first packet that the decoder refuses once frames have come.

    What comes after a refused packet is not counted: without it nobody can say which frame is which. Refusals before
    the first frame only mean that the video begins in the middle of a group.
    """
    found = _Decoded()
    painter: Painter | None = None
    with Demuxer(path, parallel) as demuxer:
        ordinals = range(begin, len(table) + 1)
        packets = chain(islice(demuxer.packets(), begin, len(table)), (None,))
        for ordinal, packet in zip(ordinals, packets, strict=False):
            if packet is None and demuxer.broken:
                found.failed = found.first is not None
                return found
            try:
                frames = demuxer.decode(packet, ordinal)
            except FFmpegError:
                found.failed = found.first is not None
                if found.failed:
                    return found
                continue
            for source, frame in frames:
                painter = painter or Painter(frame.width, frame.height, Orientation())
                found.note(min(source, len(table) - 1), frame)
                found.checksum.append(zlib.crc32(painter.stored(frame).data))
    return found


def _index(
    path: Path, table: PacketTable, header: _Header, packets: NDArray[np.int32], decoded: _Decoded, checked_from: int
) -> FrameIndex:
    frame = decoded.first
    if frame is None:
        raise VideoUnreadable(f"Not one frame of {path.name} can be decoded. Export or upload it again.")
    count = len(packets)
    sound = checked_from == count
    pts = table.pts[packets] if sound else np.array(decoded.pts, np.int64)
    damaged = decoded.failed or decoded.flagged or table.suspect.any()
    if not damaged and (pts != NO_TIME).all() and (np.diff(pts) < 0).any():
        # Stamps that belong to the order of decoding (AVI with B-frames): the right times, on the wrong frames.
        pts = np.sort(pts)
    checksum = np.zeros(0 if sound else count, np.uint32)
    if not sound:
        checksum[:] = decoded.checksum
    return FrameIndex(
        packets=table,
        packet_of_frame=packets,
        pts=pts,
        checksum=checksum,
        checked_from=checked_from,
        # A small video is decoded in no time anyway, and in one way only, so that faults that went unseen stay the same.
        parallel=sound and len(table) * header.width * header.height > CHECK_WHOLE_PIXELS,
        time_base=header.time_base,
        fps=_rate(pts, header, float(header.time_base)),
        width=frame.width,
        height=frame.height,
        frame_bytes=sum(plane.buffer_size for plane in frame.planes),
        orientation=Orientation.of(frame),
        damage=_damage(path.name, table, header, count, decoded),
    )


def _rate(pts: NDArray[np.int64], header: _Header, time_base: float) -> float:
    """Frames / duration; the container's own figure where the two agree but for rounding of time stamps."""
    known = pts[pts != NO_TIME]
    if len(known) < 2 or known.max() == known.min():
        return header.rate
    span = float(known.max() - known.min())
    last = header.last_duration or span / (len(known) - 1)
    rate = len(known) / ((span + last) * time_base)
    return header.rate if header.rate and abs(rate / header.rate - 1) < 0.01 else rate


def _damage(name: str, table: PacketTable, header: _Header, count: int, decoded: _Decoded) -> str | None:
    packets = int((~table.hidden).sum())
    announced = max(packets, header.frames - int(table.hidden.sum()))
    one_each = header.codec in _ONE_FRAME_PER_PACKET
    mend = "To get the rest, export or upload the video again."
    if decoded.failed:
        of = f" of {announced}" if announced > count else ""
        return f"{name} is damaged: only the first {count}{of} frames can be read. {mend}"
    if header.missing or (one_each and header.frames > len(table)):
        of = f" of {header.frames}" if header.frames > count else ""
        return f"{name} is cut off: only the first {count}{of} frames are in the file. {mend}"
    # Two packets a frame is how fields of interlaced video are stored, not damage.
    if one_each and 0 < packets - count < packets / 3:
        return f"{name} is damaged: {packets - count} of {packets} frames cannot be decoded and are left out. {mend}"
    touched = max(decoded.flagged, int(table.suspect.sum()))
    if touched:
        where = f" (the first is frame {decoded.first_flagged})" if decoded.flagged else ""
        return f"{name} is damaged: {touched} of {count} frames or more may look broken{where}, or be missing. {mend}"
    return None
