"""The frame index: which packet holds which frame, where decoding can begin, and when each frame is shown.

Numbers only, a few dozen bytes a frame. A frame is known by the packet that it was coded in, never by its time stamp, so
that missing, repeated or wrong time stamps cannot mix frames up.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from common.video.picture import Orientation

NO_TIME = np.iinfo(np.int64).min
"""Stands for a time stamp that the file does not give."""


@dataclass(frozen=True, eq=False)
class PacketTable:
    """What the packets of a video say without being decoded, in the order of the file. All arrays have one entry each.

    fingerprint: int64. pts, dts: int64, stream time base, NO_TIME where absent. key: decoding may begin here. hidden:
    decoded but not shown (outside the edit list). suspect: marked damaged by the container, or malformed inside.
    """

    fingerprint: NDArray[np.int64]
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    key: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    suspect: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def ordered(self) -> bool:
        """Whether the time stamps alone give the order of presentation: all there, all different."""
        shown = self.pts[~self.hidden]
        return bool((shown != NO_TIME).all()) and len(np.unique(shown)) == len(shown)

    def shown(self) -> NDArray[np.int32]:
        """Packets of the frames in order of presentation, int32; only meaningful when `ordered`."""
        packets = np.flatnonzero(~self.hidden)
        return packets[np.argsort(self.pts[packets], kind="stable")].astype(np.int32)


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Frames of a video in order of presentation.

    packets: the packet table. packet_of_frame: int32 (frames,). pts: int64 (frames,), stream time base. checksum: uint32
    (frames,), CRC-32 of the RGB picture as stored, meaningful from frame `checked_from` on: those frames were found by
    decoding, and a picture that decoding from a later key frame gives only counts when its checksum agrees.
    parallel: decode several frames at once. frame_bytes: memory of one decoded frame as the decoder holds it. width, height: pixels as stored.
    damage: what is missing, in words; None for a sound file.
    """

    packets: PacketTable
    packet_of_frame: NDArray[np.int32]
    pts: NDArray[np.int64]
    checksum: NDArray[np.uint32]
    checked_from: int
    parallel: bool
    time_base: Fraction
    fps: float
    width: int
    height: int
    frame_bytes: int
    orientation: Orientation
    damage: str | None

    def __post_init__(self) -> None:
        frame_of_packet = np.full(len(self.packets), -1, np.int32)
        # Backwards, so that a packet with several frames names the first.
        frame_of_packet[self.packet_of_frame[::-1]] = np.arange(len(self), dtype=np.int32)[::-1]
        keys = np.flatnonzero(self.packets.key).astype(np.int32)
        object.__setattr__(self, "frame_of_packet", frame_of_packet)
        object.__setattr__(self, "keys", keys)

    frame_of_packet: NDArray[np.int32] = None  # type: ignore[assignment]
    keys: NDArray[np.int32] = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.packet_of_frame)

    @property
    def sound(self) -> bool:
        """Whether every frame may be trusted to be what the packets say."""
        return self.checked_from >= len(self)

    @property
    def held_bytes(self) -> int:
        """Memory of one frame while it is held back: as decoded, or as RGB; at least 1."""
        return max(1, self.frame_bytes if self.parallel else self.width * self.height * 3)

    def entry(self, frame: int) -> int:
        """The packet to begin at to get `frame`: the last key packet before it whose own frame is shown no later.

        Pictures between a key frame and the frames shown before it (leading pictures of an open group) need the group
        before. Packet 0 when there is no such key packet.
        """
        at = int(np.searchsorted(self.keys, self.packet_of_frame[frame], "right")) - 1
        while at >= 0 and self.frame_of_packet[self.keys[at]] > frame:
            at -= 1
        return int(self.keys[at]) if at >= 0 else 0

    def before(self, packet: int, steps: int) -> int:
        """The key packet `steps` key packets before `packet`; 0 when there are not so many."""
        at = int(np.searchsorted(self.keys, packet, "left")) - steps
        return int(self.keys[at]) if at >= 0 else 0

    def group_start(self, frame: int) -> int:
        """First frame that decoding from `entry(frame)` gives for certain, <= frame."""
        packet = self.entry(frame)
        first = int(self.frame_of_packet[packet])
        return first if 0 <= first <= frame and packet else 0

    def seconds(self) -> NDArray[np.float64]:
        """When each frame is shown, float64 (frames,), seconds on the file's own clock, which need not begin at 0.

        Where the file gives no time the frame is put one frame length after the one before.
        """
        base = float(self.time_base)
        times = self.pts.astype(np.float64) * base
        gaps = np.flatnonzero(self.pts == NO_TIME)
        for i in gaps:
            times[i] = times[i - 1] + (1 / self.fps if self.fps else 0) if i else 0.0
        return times
