"""Doing something on a server exactly once although answers get lost: try, and where in doubt look before trying again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from common.errors import Interrupted, ServerUnreachable
from common.supervisely_io.retry import Retry

T = TypeVar("T")


def once(
    attempt: Callable[[], T],
    look: Callable[[], T | None],
    retry: Retry,
    stop: threading.Event,
    chance: random.Random | None = None,
) -> T:
    """What `attempt` gives, tried again while it raises `ServerUnreachable`.

    attempt: must not repeat itself (`Server.call(..., repeat=False, retry=ONCE)`). look: asked after failures in which
    the server may have acted: what it made, None when it made nothing (or not all; then `attempt` does the rest).
    Raises `ServerUnreachable` after retry.total_s, `Interrupted` when stop is set while it waits, and all else as it comes.
    """
    chance = chance or random.Random()
    end = time.monotonic() + retry.total_s
    failures = 0
    while True:
        try:
            return attempt()
        except ServerUnreachable as error:
            failures += 1
            wait = retry.wait(failures, chance, error.retry_after_s)
            if time.monotonic() + wait >= end:
                raise
            if stop.wait(wait):
                raise Interrupted("Stopped while waiting for the server.") from error
            # looked for only now, so that a slow request has had time to arrive
            found = look() if error.uncertain else None
        if found is not None:
            return found
