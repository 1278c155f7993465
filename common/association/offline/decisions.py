"""What a repair did, may do, and why, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from common.association.contract import Tracks

Kind = Literal["link", "fill", "drop", "smooth"]


@dataclass(frozen=True)
class Decision:
    """One thing done. ids: the identities it concerned; the first one stays. frames: first and last frame concerned.
    score: 0..1, how sure. reasons: what spoke for and against, as costs or measures, by name."""

    kind: Kind
    ids: tuple[int, ...]
    frames: tuple[int, int]
    score: float
    reasons: Mapping[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """For people."""
        first, last = self.frames
        why = ", ".join(f"{name} {value:.2f}" for name, value in self.reasons.items())
        match self.kind:
            case "link":
                what = f"{self.ids[1]} is {self.ids[0]} again, unseen from frame {first} to {last}"
            case "fill":
                what = f"{self.ids[0]} filled in from frame {first} to {last}"
            case "drop":
                what = f"{self.ids[0]} dropped, seen from frame {first} to {last} only"
            case _:
                what = f"{self.ids[0]} smoothed"
        return f"{what} (sure to {self.score:.2f}; {why})" if why else what


@dataclass(frozen=True)
class Suggestion:
    """Something that a person may want to do: merge two identities, or split one at a frame. Fields as in `Decision`."""

    kind: Literal["merge", "split"]
    ids: tuple[int, ...]
    frame: int
    score: float
    reasons: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Repaired:
    """tracks: as they are now. decisions, suggestions: best first. renamed: old identity -> the one it was linked to."""

    tracks: Tracks
    decisions: tuple[Decision, ...]
    suggestions: tuple[Suggestion, ...]
    renamed: Mapping[int, int]

    def summary(self) -> str:
        """One line."""
        count = {kind: sum(d.kind == kind for d in self.decisions) for kind in ("link", "fill", "drop")}
        return (
            f"Repair: {count['link']} linked, {count['fill']} gaps filled, {count['drop']} dropped, "
            f"{len(self.suggestions)} suggestions."
        )
