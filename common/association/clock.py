"""Which frame an update is, and how much time has passed since the one before."""

from __future__ import annotations

from dataclasses import dataclass

from common.association.settings import TICKS_PER_S, Timing


@dataclass
class Clock:
    """frame, time_s: of the last update; None before the first."""

    timing: Timing
    frame: int | None = None
    time_s: float | None = None

    def advance(self, frame: int | None = None, time_s: float | None = None) -> float:
        """Ticks (1/30 s) since the last update, 0 at the first. Afterwards `frame` is this update's.

        Raises ValueError when the frames do not go on in the direction of the step.
        """
        timing, last, last_time = self.timing, self.frame, self.time_s
        if frame is None:
            frame = timing.start if last is None else last + timing.step
        if last is not None and (frame - last) * timing.step <= 0:
            way = "up" if timing.step > 0 else "down"
            raise ValueError(f"frames go {way} here: after {last} cannot come {frame}")
        self.frame, self.time_s = frame, time_s
        if last is None:
            return 0.0
        if time_s is not None and last_time is not None:
            return abs(time_s - last_time) * TICKS_PER_S
        return abs(frame - last) * (TICKS_PER_S / timing.fps if timing.fps > 0 else 1.0)
