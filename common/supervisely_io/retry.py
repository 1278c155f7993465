"""When to ask again and how long to wait before it: pure decisions, no clock and no sockets."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

TRANSIENT = frozenset((408, 425, 429, 499, 500, 502, 503, 504, 509, 598, 599))
"""Statuses that a later attempt may not meet; the SDK's list, and 425. Any other from 400 to 499 is final."""


@dataclass(frozen=True)
class Retry:
    """How patient a call is.

    total_s: bound on everything, waits and attempts (an attempt under way is cut short too). first_s: the first wait,
    doubled each time up to longest_s; each wait is drawn from its upper half, so that clients that failed together do
    not come back together. Raising total_s outlives longer outages, and makes a broken server known later.
    """

    total_s: float = 60.0
    first_s: float = 0.25
    longest_s: float = 8.0

    def __post_init__(self) -> None:
        if not (self.total_s >= 0 and 0 < self.first_s <= self.longest_s):
            raise ValueError(f"not a way to retry: {self}")

    def wait(self, failures: int, chance: random.Random, asked_s: float | None = None) -> float:
        """Seconds to wait after that many failures in a row (1 or more).

        asked_s: what the server asked for (Retry-After); the wait is never shorter than that.
        """
        base = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return max(base * (0.5 + 0.5 * chance.random()), asked_s or 0.0)


ONCE = Retry(total_s=0.0)
"""No second attempt; the attempt itself is bounded by the timeouts alone."""


def transient(status: int) -> bool:
    """Whether that status may be gone at the next attempt.

    >>> transient(503), transient(429), transient(404)
    (True, True, False)
    """
    return status in TRANSIENT or status >= 500


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a reply's Retry-After asks for (RFC 9110: a number of seconds or a date), None without a usable one.

    >>> retry_after({"retry-after": "3"}), retry_after({"retry-after": "soon"})
    (3.0, None)
    """
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
