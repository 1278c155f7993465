"""How much memory the process has in use, to the byte: what is kept of one frame shows after a few."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


class _Mallinfo(ctypes.Structure):
    """glibc's `struct mallinfo2`, since 2.33."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "used",
            "fordblks",
            "keepcost",
        )
    ]


try:
    _LIBC = ctypes.CDLL(None)
    _LIBC.mallinfo2.restype = _Mallinfo
except (OSError, TypeError, AttributeError):
    _LIBC = None


@contextmanager
def watched() -> Iterator[None]:
    """Around a measurement: what exists already is left out of every collection from here on, so that collecting costs
    nothing."""
    gc.collect()
    gc.freeze()
    if _LIBC is None:
        tracemalloc.start()
    try:
        yield
    finally:
        if _LIBC is None:
            tracemalloc.stop()


def in_use() -> tuple[int, int]:
    """Once garbage is collected: bytes that the C library has given out and not taken back, whoever asked (NumPy, torch,
    OpenCV); small objects that Python keeps in memory of its own. Where the C library is not glibc, of the first only what
    Python asked for."""
    gc.collect()
    blocks = sys.getallocatedblocks()
    if _LIBC is None:
        return tracemalloc.get_traced_memory()[0], blocks
    info = _LIBC.mallinfo2()
    return info.used + info.hblkhd, blocks
