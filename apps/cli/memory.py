"""Keeps a long job's memory at what is in use: big arrays go back to the system when they are freed."""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD = -3
_BIG = 128 * 1024
"""Bytes. glibc begins with this and then raises it to whatever was freed last, so that frames come to lie between
small objects and leave holes that are never given back."""


def keep_compact() -> None:
    """Call once, before the work. Does nothing where the C library is another."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _BIG)


def release() -> None:
    """Gives back what is freed, between the stages of a job, so that the next does not come on top of it."""
    gc.collect()
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    """The C library if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except (OSError, TypeError):
        return None
