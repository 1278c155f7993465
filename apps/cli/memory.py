"""Freed memory back to the system between the stages of a job, so that the next stage does not come on top of it."""

from __future__ import annotations

import ctypes
import gc


def release() -> None:
    """Does nothing where the C library has no `malloc_trim` (only glibc has)."""
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
