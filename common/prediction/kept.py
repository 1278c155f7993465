"""One frame's detections as a few bytes on disk, followed or not: what a second look at identities needs, without pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from common.association.contract import Given
from common.geometry.detections import Detections

_HEAD = struct.Struct("<IHB")
_ORIENTED = 1


def encode(seen: Detections) -> bytes:
    """Boxes, scores, classes, turned boxes and looks; masks and keypoints are left out. Looks are rounded to 1/127 of their
    largest entry, which changes half a cosine distance by less than 0.001."""
    n = len(seen)
    looks = np.zeros((n, 0), np.float32) if seen.embeddings is None else seen.embeddings
    parts = [_HEAD.pack(n, looks.shape[1], 0 if seen.oriented is None else _ORIENTED)]
    parts += [
        seen.xyxy.astype("<f4").tobytes(),
        seen.scores.astype("<f4").tobytes(),
        seen.classes.astype("<i4").tobytes(),
    ]
    if seen.oriented is not None:
        parts.append(seen.oriented.astype("<f4").tobytes())
    if looks.shape[1]:
        largest = np.maximum(np.abs(looks).max(1, initial=0.0, keepdims=True), 1e-12)
        parts.append(np.rint(looks * (127 / largest)).astype("i1").tobytes())
    return zlib.compress(b"".join(parts), 1)


def decode(data: bytes) -> Detections:
    """What `encode` got; looks are of length 1, or 0 where they were."""
    plain = zlib.decompress(data)
    n, width, flags = _HEAD.unpack_from(plain)
    at = _HEAD.size

    def column(kind: str, across: int) -> NDArray[np.generic]:
        nonlocal at
        found = np.frombuffer(plain, kind, n * across, at).reshape(n, across)
        at += found.nbytes
        return found

    xyxy, scores, classes = column("<f4", 4), column("<f4", 1)[:, 0], column("<i4", 1)[:, 0]
    oriented = column("<f4", 5) if flags & _ORIENTED else None
    looks: NDArray[np.float32] | None = None
    if width:
        coarse = column("i1", width).astype(np.float32)
        looks = coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-12)
    return Detections(xyxy, scores, classes, embeddings=looks, oriented=oriented)  # type: ignore[arg-type]


def encode_people(given: Given) -> bytes:
    """What people labelled on a frame."""
    parts = (given.ids.astype("<i8"), given.classes.astype("<i8"), given.xyxy.astype("<f4"))
    return b"".join(part.tobytes() for part in parts)


def decode_people(data: bytes) -> Given:
    """What `encode_people` got."""
    n = len(data) // 32
    ids, classes = np.frombuffer(data, "<i8", 2 * n).reshape(2, n)
    xyxy = np.frombuffer(data, "<f4", 4 * n, 16 * n).reshape(n, 4)
    return Given(ids, xyxy, classes)
