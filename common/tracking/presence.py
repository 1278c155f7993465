"""Is the object there? Scores and visibility of single frames in, steady decisions out: present, occluded or gone.

A figure is not drawn while its object is lost, a brief dip does not make it flicker, and an object that left the picture
ends its track with a reason in words. Counts are exact: "5 frames" are five frames in a row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import numpy as np

from common.geometry.measures import area, bounds
from common.geometry.types import Box, Geometry, Mask, Points
from common.tracking.contract import Prediction
from common.tracking.snapshot import Tree


class State(StrEnum):
    PRESENT = "present"
    OCCLUDED = "occluded"
    GONE = "gone"


@dataclass(frozen=True)
class PresenceSettings:
    """When an object counts as hidden, back, or gone. Times are in frames; `for_fps` takes seconds.

    low: a frame whose score is below speaks against the object. Raising it hides more.
    high: score that a hidden object needs to come back, >= low. Raising it brings objects back later and surer.
    hide_after: frames in a row against the object until it counts as hidden. Raising it rides out longer dips and draws
        more figures of objects that are really hidden.
    return_after: frames in a row for the object until it counts as back. Raising it stops flicker, and loses that many
        frames at every return.
    leave_after: frames in a row out of the picture, or hidden right after it touched the picture's edge, until the track
        ends. Raising it waits longer for objects that dip out of the picture.
    inside: share of the object's box that must lie in the picture for it to be in it, 0..1. Raising it ends tracks earlier.
    edge: how near to the picture's edge counts as touching, as a share of the picture's shorter side.
    shrunk: share of the usual area below which a frame speaks against the object, 0..1; 0 switches it off. Raising it hides
        objects that shrink quickly.
    give_up_after: frames hidden anywhere until the track ends; None = never. Raising it waits longer.
    usual_over: frames over which the usual area is learned. Raising it makes slow shrinking count.
    """

    low: float = 0.2
    high: float = 0.4
    hide_after: int = 3
    return_after: int = 2
    leave_after: int = 8
    inside: float = 0.15
    edge: float = 0.01
    shrunk: float = 0.2
    give_up_after: int | None = None
    usual_over: int = 60

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"0 <= low <= high <= 1, got low {self.low}, high {self.high}")
        if not (0 <= self.inside <= 1 and 0 <= self.shrunk < 1 and 0 <= self.edge <= 0.5):
            raise ValueError("inside and shrunk are shares of 0..1, edge of 0..0.5")
        counts = [self.hide_after, self.return_after, self.leave_after, self.usual_over]
        if min(counts + ([] if self.give_up_after is None else [self.give_up_after])) < 1:
            raise ValueError("times are at least one frame")

    @classmethod
    def for_fps(
        cls,
        fps: float,
        *,
        hide_after_s: float = 0.12,
        return_after_s: float = 0.08,
        leave_after_s: float = 0.32,
        give_up_after_s: float | None = None,
        usual_over_s: float = 2.4,
    ) -> PresenceSettings:
        """The same times in seconds for a video of `fps` frames per second; 0 (no clock) counts as 25.

        >>> PresenceSettings.for_fps(50).leave_after
        16
        """
        rate = fps if fps > 0 else 25.0

        def frames(seconds: float) -> int:
            return max(1, round(seconds * rate))

        return cls(
            hide_after=frames(hide_after_s),
            return_after=frames(return_after_s),
            leave_after=frames(leave_after_s),
            give_up_after=None if give_up_after_s is None else frames(give_up_after_s),
            usual_over=frames(usual_over_s),
        )


@dataclass(frozen=True)
class Decision:
    """What is true of the object on this frame.

    draw: whether a figure belongs on this frame. reason: why it is not drawn or ended, in words; "" while present.
    since: frames ago that what led to this state began (0 = on this frame): with GONE, the figures of the last `since`
    frames were already without an object.
    """

    state: State
    draw: bool
    reason: str = ""
    since: int = 0


@dataclass(frozen=True)
class _Memory:
    """All that is kept: a few numbers. away, seen, out: frames in a row against, for, and out of the picture."""

    state: State = State.PRESENT
    reason: str = ""
    away: int = 0
    seen: int = 0
    out: int = 0
    side: str = ""
    log_area: float | None = None
    frames: int = 0


class Presence:
    """Decisions about one object, frame after frame in the order of tracking (forward or backward). O(1) memory.

    width, height: of the picture. Begin with the key figure's frame (`Prediction(key, geometry, 1.0, True)`), or with the
    first predicted one.
    """

    def __init__(self, width: int, height: int, settings: PresenceSettings | None = None) -> None:
        self._size = (width, height)
        self._settings = settings or PresenceSettings()
        self._memory = _Memory()

    def update(self, prediction: Prediction) -> Decision:
        """The next frame. GONE is final until `restart`."""
        m, s = self._memory, self._settings
        if m.state is State.GONE:
            self._memory = replace(m, away=m.away + 1)
            return Decision(m.state, False, m.reason, m.away)

        if isinstance(prediction.geometry, Mask) and prediction.geometry.area == 0:
            prediction = replace(prediction, geometry=None)
        share, side = _in_picture(prediction.geometry, self._size, s.edge)
        outside = prediction.geometry is not None and share < max(s.inside, 1e-9)
        small, m = self._area(m, prediction, outside)
        bar = s.low if m.state is State.PRESENT else s.high
        lost = prediction.geometry is None or not prediction.visible
        against = outside or small or lost or prediction.score < bar
        if against:
            # Where it was last seen decides which way it may have left; a geometry outside says so itself.
            m = replace(m, away=m.away + 1, seen=0, side=side if outside and side else m.side)
            leaving = outside or (bool(m.side) and (lost or small or prediction.score < s.low))
            m = replace(m, out=m.out + 1 if leaving else 0)
            if small and not lost and not outside:
                why = "shrank to a fraction of its size"
            elif outside:
                why = "out of the picture"
            else:
                why = "hidden or lost"
        else:
            m = replace(m, seen=m.seen + 1, out=0, side=side)
            why = ""

        if m.out >= s.leave_after:
            m = replace(m, state=State.GONE, reason=f"left the picture{_at(m.side)}")
        elif against and s.give_up_after is not None and m.away >= s.give_up_after:
            m = replace(m, state=State.GONE, reason=f"not found again within {s.give_up_after} frames")
        elif against and m.away >= s.hide_after:
            m = replace(m, state=State.OCCLUDED, reason=why)
        elif not against and (m.state is State.PRESENT or m.seen >= s.return_after):
            m = replace(m, state=State.PRESENT, reason="", away=0)
        elif not against:
            m = replace(m, reason="coming back")
        self._memory = m
        draw = m.state is State.PRESENT and prediction.geometry is not None and not outside
        since = (
            max((m.out if m.state is State.GONE and m.out else m.away) - 1, 0) if m.state is not State.PRESENT else 0
        )
        reason = m.reason if m.state is not State.PRESENT else ("" if draw else why)
        return Decision(m.state, draw, reason, since)

    def restart(self) -> None:
        """A person drew the object again: present, whatever was before. Its usual size is learned anew."""
        self._memory = _Memory()

    def save(self) -> Tree:
        """State as a plain tree for `snapshot.pack`."""
        return {"size": self._size, "settings": asdict(self._settings), "memory": asdict(self._memory)}

    @classmethod
    def load(cls, tree: Tree) -> Presence:
        """Goes on as the saved one would have."""
        width, height = tree["size"]
        presence = cls(width, height, PresenceSettings(**tree["settings"]))
        presence._memory = _Memory(**(tree["memory"] | {"state": State(tree["memory"]["state"])}))
        return presence

    def _area(self, m: _Memory, prediction: Prediction, outside: bool) -> tuple[bool, _Memory]:
        """Whether the object is far smaller than usual; the usual size is learned from frames that are trusted."""
        size = 0.0 if prediction.geometry is None else area(prediction.geometry)
        if prediction.geometry is None or isinstance(prediction.geometry, Points) or outside:
            return False, m
        log = float(np.log(max(size, 1e-3)))
        if m.log_area is None:
            return False, replace(m, log_area=log, frames=1)
        small = self._settings.shrunk > 0 and log < m.log_area + np.log(self._settings.shrunk)
        if small or not prediction.visible or prediction.score < self._settings.low:
            return bool(small), m
        # A running median in steps: one wild size moves it no further than a slightly larger one does.
        n = min(m.frames + 1, self._settings.usual_over)
        step = float(np.clip(log - m.log_area, -1, 1)) * 2 / (n + 1)
        return False, replace(m, log_area=m.log_area + step, frames=n)


def _in_picture(geometry: Geometry | None, size: tuple[int, int], edge: float) -> tuple[float, str]:
    """Share of the geometry's box that lies in the picture, and the side of the picture that it touches or is beyond."""
    if geometry is None:
        return 0.0, ""
    if isinstance(geometry, Points) and geometry.visible.any():
        geometry = Points(geometry.xy[geometry.visible])
    box = bounds(geometry)
    if box is None:
        return 0.0, ""
    (x1, y1, x2, y2), (width, height) = (float(v) for v in _solid(box).xyxy), size
    common = max(0.0, min(x2, width) - max(x1, 0)) * max(0.0, min(y2, height) - max(y1, 0))
    near = edge * min(size)
    # The side it reaches over most.
    over = {"left": -x1, "top": -y1, "right": x2 - width, "bottom": y2 - height}
    side = max(over, key=lambda k: over[k])
    return common / ((x2 - x1) * (y2 - y1)), side if over[side] >= -near else ""


def _solid(box: Box) -> Box:
    """At least a pixel wide and high."""
    xyxy = box.xyxy.copy()
    grow = np.maximum(1 - (xyxy[2:] - xyxy[:2]), 0) / 2
    return Box(np.concatenate((xyxy[:2] - grow, xyxy[2:] + grow)))


def _at(side: str) -> str:
    return {"left": " on the left", "right": " on the right", "top": " at the top", "bottom": " at the bottom"}.get(
        side, ""
    )
