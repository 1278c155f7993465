"""What is kept of one object: labelled frames within a budget, and of the frames before only what attention reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """Of one frame. tokens: (N, c), None when only the pointer is still read. pointer: (C,)."""

    tokens: Tensor | None
    pointer: Tensor


@dataclass
class Bank:
    """labelled: frame number -> entry, frames with prompts; never forgotten. elsewhere: labelled pictures whose place in
    time is not known, or ahead: their memory counts, their pointer does not. recent: frame number -> entry, tracked.
    Frames are numbered in the order in which they are tracked, whichever way the video runs.
    """

    labelled: dict[int, Entry] = field(default_factory=dict)
    elsewhere: list[Entry] = field(default_factory=list)
    recent: dict[int, Entry] = field(default_factory=dict)

    def layout(self, frame: int) -> tuple[object, ...]:
        """Objects of equal layout can be tracked as one batch in that frame."""
        return (
            tuple(frame - number for number in self.labelled),
            len(self.elsewhere),
            tuple((frame - number, entry.tokens is None) for number, entry in self.recent.items()),
        )

    def memories(self, frame: int, most: int, labelled: int | None = None) -> list[tuple[int, Entry]]:
        """What attention reads: (frames ago, entry), labelled ones first, with 0.

        most: memories of tracked frames. labelled: most labelled frames that are read as such, the latest; earlier ones
        count as tracked. None = all.
        """
        known = sorted(self.labelled)
        chosen = known if labelled is None else known[max(0, len(known) - labelled) :]
        found = [(0, entry) for entry in (*(self.labelled[number] for number in chosen), *self.elsewhere)]
        for ago in range(most, 0, -1):
            entry = self.recent.get(frame - ago)
            if entry is None and frame - ago not in chosen:
                entry = self.labelled.get(frame - ago)
            if entry is not None and entry.tokens is not None:
                found.append((ago, entry))
        return found

    def pointers(self, frame: int, most: int) -> list[tuple[int, Tensor]]:
        """(frames ago, pointer), never of frames ahead. most: how many frames back."""
        found = [(frame - number, entry.pointer) for number, entry in self.labelled.items() if number <= frame]
        for ago in range(1, most + 1):
            entry = self.recent.get(frame - ago)
            if entry is not None:
                found.append((ago, entry.pointer))
        return found

    def prune(self, frame: int, memories: int, pointers: int) -> None:
        """Forgets what no frame after `frame` will read."""
        kept = {}
        for number, entry in self.recent.items():
            ago = frame + 1 - number
            if 1 <= ago <= pointers:
                kept[number] = entry if ago <= memories else Entry(None, entry.pointer)
        self.recent = kept
