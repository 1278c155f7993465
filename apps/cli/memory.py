"""Keeps a long job's memory at what is in use: big arrays go back to the system when they are freed."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_BIG = 2**20
"""Bytes. glibc begins with an eighth of this and then raises it to whatever was freed last, up to 32 MiB, so that frames come
to lie between small objects and leave holes that are never given back. An array that goes back to the system costs clearing
its pages the next time: at an eighth of this, tracking took a quarter longer."""
_SPARE = 2**25
"""Bytes at the end of the heap that are kept for what comes next; glibc's most when it decides by itself."""


def keep_compact() -> None:
    """Call once, before the work. Does nothing where the C library is another."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _BIG)
        libc.mallopt(_M_TRIM_THRESHOLD, _SPARE)


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
