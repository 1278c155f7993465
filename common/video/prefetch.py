"""Decode ahead on another thread, so that decoding and tracking overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class _End:
    """Stands for the end of the items."""


def prefetch(items: Iterator[T], ahead: int = 4) -> Generator[T, None, None]:
    """The same items in the same order, up to `ahead` of them made before they are asked for, on one other thread.

    An error of `items` is raised where its item would have come. Raising `ahead` evens out slow items and costs the
    memory of as many. Stopping early (break, close, an error in the caller) waits for the item being made, ends the
    thread and closes `items`; use `contextlib.closing` where the generator outlives its loop. The thread starts with the
    first item asked for. `items` must not be used by anyone else meanwhile.

    >>> list(prefetch(iter("abc")))
    ['a', 'b', 'c']
    """
    if ahead < 1:
        raise ValueError(f"ahead is 1 or more, got {ahead}")
    return _run(items, ahead)


def _run(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    end = _End()
    pending: deque[Future[T | _End]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        while True:
            while len(pending) < ahead:
                pending.append(pool.submit(next, items, end))
            item = pending.popleft().result()
            if isinstance(item, _End):
                return
            yield item
            del item
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        pending.clear()
        close = getattr(items, "close", None)
        if close is not None:
            close()
