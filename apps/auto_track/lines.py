"""The objects of a session and what of them is to be tracked: a strand is one tracklet's figures of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from apps.auto_track.engines import Engine, Sighting
from apps.auto_track.legs import Leg, figure_key
from apps.auto_track.loading import Seed
from apps.auto_track.timeline import Slot, Timeline, Tracklet
from common.geometry.measures import bounds
from common.geometry.shapes import Value, to_geometry
from common.geometry.types import Box

StrandName = tuple[int, Slot, str, str]
"""Object, slot, digest of the key figures, kind."""

MOST_TRIES = 2
"""An engine that fails is tried again at once, so often in all; after that when more is asked for."""


@dataclass(frozen=True)
class Options:
    """What a session was asked for and how it is set."""

    track_id: str
    engine_of: Callable[[str], Engine | None]
    hide: bool = True
    two_sided: bool = True


@dataclass
class Line:
    """One object. pending: frames of a tracklet whose figures are not all final yet. retold: figures of which the labeler
    knows that their outline is made of other parts by now."""

    timeline: Timeline
    seeds: dict[int, list[Seed]]
    pending: dict[Slot, dict[int, tuple[int, dict[int, Sighting]]]] = field(default_factory=dict)
    away: int = 0
    retold: set[int] = field(default_factory=set)
    box: tuple[int, Box] | None = None


@dataclass(frozen=True)
class Strand:
    """A tracklet's figures of one kind. next: the first frame that is wanted of it."""

    object_id: int
    tracklet: Tracklet
    kind: str
    next: int

    @property
    def name(self) -> tuple[int, Slot, str, str]:
        return self.object_id, self.tracklet.slot, self.tracklet.key.digest, self.kind


class Lines:
    """All objects of one session, and what has failed of them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.by_object: dict[int, Line] = {}
        self._failed: set[StrandName] = set()
        self._tries: Counter[StrandName] = Counter()

    # --- what failed ---------------------------------------------------------------------------------------------------

    def try_again(self, object_id: int | None = None) -> None:
        """What failed may be tried again; of one object, or of all."""
        self._failed = {name for name in self._failed if object_id not in (None, name[0])}
        self._tries = Counter({name: n for name, n in self._tries.items() if object_id not in (None, name[0])})

    def give_up(self, strand: Strand) -> None:
        """It is not tried again by itself."""
        self._failed.add(strand.name)

    def failed_once_more(self, strand: Strand, for_good: bool = False) -> bool:
        """Whether it is given up now."""
        self._tries[strand.name] += 1
        if for_good or self._tries[strand.name] >= MOST_TRIES:
            self._failed.add(strand.name)
            return True
        return False

    def expected(self, object_id: int, tracklet: Tracklet) -> set[int]:
        """Numbers of the figures of a tracklet that are tracked: neither failed nor without an engine."""
        return {
            number
            for number, seed in enumerate(self.by_object[object_id].seeds[tracklet.slot.start])
            if self.options.engine_of(self.kind(seed)) is not None
            and (object_id, tracklet.slot, tracklet.key.digest, self.kind(seed)) not in self._failed
        }

    # --- what is to be done --------------------------------------------------------------------------------------------

    def kind(self, seed: Seed) -> str:
        """A Smart Tool mask whose clicks cannot be followed is a mask like any other."""
        if seed.kind == "smarttool" and self.options.engine_of("smarttool") is None:
            return "bitmap"
        return seed.kind

    def strands(self) -> list[Strand]:
        found = []
        for object_id, line in self.by_object.items():
            for tracklet, frame in line.timeline.todo():
                if tracklet.slot.step < 0 and tracklet.facing is not None and not self.options.two_sided:
                    continue
                for kind in {self.kind(seed) for seed in line.seeds.get(tracklet.slot.start, ())}:
                    strand = Strand(object_id, tracklet, kind, frame)
                    if strand.name not in self._failed and self.options.engine_of(kind) is not None:
                        found.append(strand)
        return found

    def unusable(self) -> set[str]:
        """Kinds of figures that should be tracked and that no engine is chosen for."""
        kinds = {
            self.kind(seed)
            for line in self.by_object.values()
            for tracklet, _ in line.timeline.todo()
            for seed in line.seeds.get(tracklet.slot.start, ())
        }
        return {kind for kind in kinds if self.options.engine_of(kind) is None}

    def steps_left(self) -> int:
        """Figures that will still be predicted."""
        left = 0
        for strand in self.strands():
            left += (abs(strand.tracklet.end - strand.next) + 1) * self.width(strand)
        return left

    def width(self, strand: Strand) -> int:
        """Figures of a strand on every frame."""
        seeds = self.by_object[strand.object_id].seeds[strand.tracklet.slot.start]
        return sum(self.kind(seed) == strand.kind for seed in seeds)

    def boxes(self, frame: int) -> list[tuple[int, Box]]:
        """Where the objects are on a frame or were a moment ago, and what people drew there; (object, box)."""
        near = [(i, line.box[1]) for i, line in self.by_object.items() if line.box and abs(line.box[0] - frame) <= 2]
        drawn = [
            (i, bounds(to_geometry(s.value))) for i, line in self.by_object.items() for s in line.seeds.get(frame, ())
        ]
        return near + [(ident, box) for ident, box in drawn if box is not None]

    def follows(self, leg: Leg, object_id: int) -> bool:
        line = self.by_object.get(object_id)
        if line is None:
            return False
        key = line.timeline.keys.get(leg.slot.start)
        return key is not None and key.digest == leg.members[object_id]

    def values(
        self,
        object_ids: Sequence[int],
        frame: int,
        kind: str,
        seeds: Mapping[int, Mapping[int, list[Seed]]] | None = None,
    ) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for ident in object_ids:
            by_frame = self.by_object[ident].seeds if seeds is None else seeds.get(ident, {})
            for number, seed in enumerate(by_frame.get(frame, ())):
                if self.kind(seed) == kind:
                    found[figure_key(ident, number)] = seed.value
        return found
