"""Which frames a labeler should look at next: a short list from a stream of scores, worst first, spread over the video.

Memory depends on how many suggestions are wanted and how many objects there are, never on the number of frames. The result
does not depend on anything but the calls: equal calls give equal lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import numpy as np

from common.geometry.measures import bounds
from common.geometry.types import Geometry
from common.tracking.contract import Prediction
from common.tracking.snapshot import Tree


class Reason(StrEnum):
    """Why a frame should be looked at, in a labeler's words."""

    LOST = "lost"
    JUMPED = "jumped"
    RETURNED = "returned"
    LOW = "low confidence"
    LEFT = "left the picture"


_SEVERITY = {Reason.LOST: 1.0, Reason.JUMPED: 0.85, Reason.RETURNED: 0.65, Reason.LEFT: 0.4}


@dataclass(frozen=True)
class Finding:
    """One object on the suggested frame. score: 0..1 as it was given."""

    key: str
    reason: Reason
    score: float


@dataclass(frozen=True)
class Suggestion:
    """A frame to look at. severity: 0..1, larger is worse. findings: worst first, at least one."""

    frame: int
    severity: float
    findings: tuple[Finding, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f.key for f in self.findings)

    @property
    def text(self) -> str:
        """In words, at most three objects by name.

        >>> Suggestion(7, 1.0, (Finding("car", Reason.LOST, 0.0), Finding("dog", Reason.LOW, 0.31))).text
        'car: lost; dog: low confidence (31 %)'
        """
        parts = [
            f"{f.key}: {f.reason}" + (f" ({100 * f.score:.0f} %)" if f.reason is Reason.LOW else "")
            for f in self.findings[:3]
        ]
        more = len(self.findings) - 3
        return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class ReviewSettings:
    """limit: most suggestions. spacing: fewest frames between two; raising it spreads them. low: scores below are low;
    raising it suggests more. jump: a step larger than this many object sizes and unlike the steps before is a jump; raising
    it reports fewer.
    """

    limit: int = 20
    spacing: int = 15
    low: float = 0.5
    jump: float = 0.75

    def __post_init__(self) -> None:
        if self.limit < 1 or self.spacing < 1 or not 0 <= self.low <= 1 or self.jump <= 0:
            raise ValueError(f"limit and spacing >= 1, 0 <= low <= 1, jump > 0, got {self}")


@dataclass
class _Object:
    """What is kept of one object: its last box (x1, y1, x2, y2), its usual step, whether it was there."""

    frame: int
    box: tuple[float, ...] | None = None
    step: tuple[float, float] | None = None
    there: bool = True
    at_edge: bool = False


@dataclass
class ReviewQueue:
    """Collects suggestions while a video is tracked. `add` every final frame, in the order of tracking; ask any time.

    size: width and height of the picture, to tell objects that left it from objects that were lost; None = do not tell.
    """

    settings: ReviewSettings = field(default_factory=ReviewSettings)
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        # The worst frame of every stretch of `spacing` frames; more stretches than wanted, because neighbours drop out.
        self._worst: dict[int, Suggestion] = {}

    def add(self, frame: int, predictions: Sequence[Prediction]) -> None:
        """Final predictions of one frame: all objects at once or in several calls. Human figures: score 1."""
        findings = []
        for p in predictions:
            reason = self._judge(frame, p)
            if reason is not None:
                findings.append(Finding(p.key, reason, float(p.score)))
        if not findings:
            return
        cell = frame // self.settings.spacing
        known = self._worst.get(cell)
        if known is not None and known.frame == frame:
            findings += known.findings
        suggestion = _suggestion(frame, findings)
        if known is None or known.frame == frame or _rank(suggestion) < _rank(known):
            self._worst[cell] = suggestion
        if len(self._worst) > 3 * self.settings.limit:
            del self._worst[max(self._worst, key=lambda c: _rank(self._worst[c]))]

    def discard(self, first: int, last: int) -> None:
        """Frames first..last (inclusive) are about to be tracked again, or were looked at: forget what was found there."""
        self._worst = {c: s for c, s in self._worst.items() if not first <= s.frame <= last}

    def suggestions(self) -> list[Suggestion]:
        """At most `limit` frames, worst first, any two at least `spacing` frames apart."""
        chosen: list[Suggestion] = []
        for s in sorted(self._worst.values(), key=_rank):
            if all(abs(s.frame - c.frame) >= self.settings.spacing for c in chosen):
                chosen.append(s)
            if len(chosen) == self.settings.limit:
                break
        return chosen

    def save(self) -> Tree:
        """State as a plain tree for `snapshot.pack`."""
        return {
            "settings": asdict(self.settings),
            "size": self.size,
            "objects": {key: asdict(o) for key, o in self._objects.items()},
            "worst": [
                (s.frame, s.severity, [(f.key, f.reason.value, f.score) for f in s.findings])
                for s in self._worst.values()
            ],
        }

    @classmethod
    def load(cls, tree: Tree) -> ReviewQueue:
        """Goes on as the saved one would have."""
        queue = cls(ReviewSettings(**tree["settings"]), tree["size"])
        queue._objects = {key: _Object(**o) for key, o in tree["objects"].items()}
        for frame, severity, findings in tree["worst"]:
            made = Suggestion(frame, severity, tuple(Finding(k, Reason(r), s) for k, r, s in findings))
            queue._worst[frame // queue.settings.spacing] = made
        return queue

    def _judge(self, frame: int, p: Prediction) -> Reason | None:
        known = self._objects.setdefault(p.key, _Object(frame))
        box = None if p.geometry is None else _box(p.geometry)
        was_there, gap = known.there, abs(frame - known.frame)
        known.frame = frame
        if box is None:
            known.there, known.step = False, None
            if not was_there:
                return None  # reported when it was lost; a long absence is one thing to look at
            return Reason.LEFT if known.at_edge else Reason.LOST
        jumped = False
        if was_there and known.box is not None and gap == 1:
            jumped = self._jumps(known, box)
        elif gap != 1:
            known.step = None  # another stretch of the video
        known.box, known.there = box, True
        known.at_edge = self.size is not None and (
            min(box[0], box[1]) <= 1 or box[2] >= self.size[0] - 1 or box[3] >= self.size[1] - 1
        )
        if jumped:
            return Reason.JUMPED
        if not was_there:
            return Reason.RETURNED
        return Reason.LOW if p.score < self.settings.low else None

    def _jumps(self, known: _Object, box: tuple[float, ...]) -> bool:
        """Whether the step from the last box is unlike the steps before, or the size changed at once."""
        assert known.box is not None
        a, b = np.array(known.box), np.array(box)
        step = (b[:2] + b[2:] - a[:2] - a[2:]) / 2
        usual = step if known.step is None else np.array(known.step)
        sizes = [float(np.sqrt(max(np.prod(v[2:] - v[:2]), 16.0))) for v in (a, b)]
        off = float(np.linalg.norm(step - usual))
        far = known.step is not None and off > self.settings.jump * min(sizes) and off > float(np.linalg.norm(usual))
        grown = max(sizes) > 1.8 * min(sizes)
        # After a jump the next steps are compared with the motion before it.
        if not far:
            usual = 0.6 * usual + 0.4 * step
        known.step = (float(usual[0]), float(usual[1]))
        return far or grown


def _box(geometry: Geometry) -> tuple[float, ...] | None:
    box = bounds(geometry)
    return None if box is None else tuple(float(v) for v in box.xyxy)


def _severity(finding: Finding) -> float:
    return max(_SEVERITY.get(finding.reason, 0.0), min(max(1 - finding.score, 0.0), 0.98) if _scored(finding) else 0.0)


def _scored(finding: Finding) -> bool:
    return finding.reason in (Reason.LOW, Reason.JUMPED, Reason.RETURNED)


def _suggestion(frame: int, findings: list[Finding]) -> Suggestion:
    ordered = sorted(findings, key=lambda f: (-_severity(f), f.key))
    # Every further object adds a little: of two frames alike, the one that mends more comes first.
    severity = 1.0
    for n, f in enumerate(ordered[:8]):
        severity *= 1 - _severity(f) * (0.95 if n == 0 else 0.2)
    return Suggestion(frame, 1 - severity, tuple(ordered))


def _rank(s: Suggestion) -> tuple[float, int]:
    return -s.severity, s.frame
