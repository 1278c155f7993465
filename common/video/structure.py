"""Cheap signs of damage that show without decoding: containers cut short, packets whose inside does not add up."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_MATROSKA, _SEGMENT = 0x1A45DFA3, 0x18538067


def missing_bytes(path: Path) -> int:
    """How many bytes the outermost structure of an MP4/MOV, Matroska/WebM or AVI file promises beyond its end.

    0: whole, or a format that makes no promise.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return max(0, int.from_bytes(head[4:8], "little") + 8 - size)
        file.seek(0)
        if head[:4] == _MATROSKA.to_bytes(4, "big"):
            return max(0, _matroska_end(file) - size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
            return max(0, _boxes_end(file, size) - size)
    return 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    end = 0
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if length == 0 or not all(32 <= c < 127 or c == 0xA9 for c in head[4:8]):
            return size  # the box reaches to the end of the file, or something else was appended: no promise
        if length < 8:
            return size
        end += length
    return end


def _matroska_end(file: BinaryIO) -> int:
    for _ in range(2):
        element = _number(file, keep_marker=True)
        length = _number(file, keep_marker=False)
        if element is None or length is None:
            return 0
        if element == _SEGMENT:
            return file.tell() + length
        file.seek(length, 1)
    return 0


def _number(file: BinaryIO, keep_marker: bool) -> int | None:
    """A variable-length integer (RFC 8794, 4); None at the end of the file and for the reserved "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    if len(rest) != width - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    value &= (1 << (7 * width)) - 1
    return None if value == (1 << (7 * width)) - 1 else value


def nal_length_size(codec: str, extradata: bytes | None) -> int:
    """Bytes of the length field in front of each NAL unit of H.264/HEVC in MP4 and Matroska (ISO/IEC 14496-15).

    0: another codec, or units separated by start codes.
    """
    position = {"h264": 4, "hevc": 21}.get(codec)
    if position is None or not extradata or len(extradata) <= position or extradata[0] != 1:
        return 0
    return (extradata[position] & 3) + 1


def nal_units_add_up(packet: memoryview, length_size: int, codec: str) -> bool:
    """Whether the lengths in a packet end exactly at its end and every unit's header is legal.

    >>> nal_units_add_up(memoryview(bytes([0, 0, 0, 2, 0x65, 1])), 4, "h264")
    True
    >>> nal_units_add_up(memoryview(bytes([0, 0, 0, 9, 0x65, 1])), 4, "h264")
    False
    """
    at, end = 0, len(packet)
    while at < end:
        length = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        if length == 0 or at + length > end:
            return False
        head = packet[at]
        if head & 0x80 or (codec == "h264" and not 1 <= head & 0x1F <= 23):
            return False
        at += length
    return True
