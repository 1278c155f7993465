"""The work of one session, a frame at a time: which run goes on next, and what becomes of what it saw.

Owned by one thread. It knows timelines, runs and frames; requests, queues, progress and waiting are session.py's.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from apps.auto_track import messages
from apps.auto_track.engines import Engine, EngineFailed, Scene, Sighting, Start
from apps.auto_track.filled import Topology, outlines
from apps.auto_track.journal import Journal, SavedLeg
from apps.auto_track.legs import Leg, figure_key, parsed_key
from apps.auto_track.lines import Line, Lines, Options, Strand
from apps.auto_track.loading import Loader, Seed
from apps.auto_track.looks import looks
from apps.auto_track.output import figures_of, fused, read_row, write_row
from apps.auto_track.timeline import Change, Slot, Timeline, Tracklet
from common.errors import EngineUnavailable, FrameUnreadable, PromptInvalid
from common.geometry.measures import bounds
from common.geometry.shapes import Polygon, Value, to_geometry
from common.geometry.types import Mask
from common.supervisely_io.records import NewFigure

log = logging.getLogger(__name__)

_MOST_PARKED = 8
_ROWS_AT_ONCE = 64
_AWAY_S = 0.32
_BEFORE = 5


class Outbox(Protocol):
    """Where results go."""

    def put(self, frame: int, object_id: int, figures: Sequence[NewFigure], steps: int, version: int) -> None: ...

    def protect(self, object_id: int, frames: tuple[int, int], version: int) -> None: ...

    def clear(self, object_id: int, frames: tuple[int, int], version: int) -> None: ...

    def warn(self, message: str) -> None: ...


class Tracking:
    """All objects of one session."""

    def __init__(self, options: Options, scene: Scene, loader: Loader, outbox: Outbox, journal: Journal) -> None:
        self.scene, self.loader = scene, loader
        self.lines = Lines(options)
        self._outbox, self._journal = outbox, journal
        self.version = 1
        self._legs: list[Leg] = []
        self._rows: list[tuple[int, int, int, bytes]] = []
        self._clock = 0
        self._saved_legs: Sequence[SavedLeg] = ()

    # --- what the timelines are ----------------------------------------------------------------------------------------

    @property
    def object_ids(self) -> list[int]:
        return list(self.lines.by_object)

    def line(self, object_id: int) -> Timeline | None:
        found = self.lines.by_object.get(object_id)
        return None if found is None else found.timeline

    def seeds(self, object_id: int) -> Mapping[int, list[Seed]]:
        found = self.lines.by_object.get(object_id)
        return {} if found is None else found.seeds

    def change(self, object_id: int, change: Change, seeds: Mapping[int, list[Seed]]) -> None:
        """The timeline becomes this. Predictions that it makes wrong are not written any more, from this moment."""
        self.version += 1
        line = self.lines.by_object.setdefault(object_id, Line(change.timeline, dict(seeds)))
        before = line.timeline
        line.timeline, line.seeds = change.timeline, dict(seeds)
        self.lines.try_again(object_id)
        good = {t.slot: t.key.digest for t in change.timeline.tracklets()}
        was = {t.slot: t.key.digest for t in before.tracklets()}
        line.pending = {slot: rows for slot, rows in line.pending.items() if good.get(slot) == was.get(slot)}
        for frames in change.stale:
            self._outbox.protect(object_id, frames, self.version)
        for frames in change.clear:
            self._outbox.clear(object_id, frames, self.version)
        self._legs = [leg for leg in self._legs if any(self.lines.follows(leg, ident) for ident in leg.members)]

    def forget(self, object_id: int) -> None:
        """The object is gone."""
        if object_id in self.lines.by_object:
            self.version += 1
            del self.lines.by_object[object_id]
            self._outbox.protect(object_id, (0, self.scene.video.frames), self.version)

    # --- one frame -----------------------------------------------------------------------------------------------------

    def next_frame(self) -> tuple[int, int] | None:
        """(step, frame) that `advance` would do: forward before backward, the frame that is furthest behind first."""
        waiting = self._waiting()
        return None if not waiting else min(((step, frame) for step, frame, _ in waiting), key=_order)

    def figures_at(self, upcoming: tuple[int, int]) -> int:
        """How many figures are looked for on the frame of `next_frame`."""
        return sum(self.lines.width(s) for step, frame, s in self._waiting() if (step, frame) == upcoming)

    def advance(self) -> None:
        """The next frame of every run that is there. Raises `Interrupted` when the work should end."""
        waiting = self._waiting()
        if not waiting:
            return
        step, frame = min(((step, frame) for step, frame, _ in waiting), key=_order)
        groups: dict[tuple[Slot, str], list[Strand]] = defaultdict(list)
        legs: dict[int, tuple[Leg, list[Strand]]] = {}
        for way, at, strand in waiting:
            if (way, at) != (step, frame):
                continue
            leg = self._leg_of(strand)
            if leg is None:
                groups[strand.tracklet.slot, strand.kind].append(strand)
            else:
                legs.setdefault(id(leg), (leg, []))[1].append(strand)
        for (slot, kind), strands in groups.items():
            for leg in self._begin(slot, kind, strands):
                legs[id(leg)] = (leg, [s for s in strands if s.object_id in leg.members])
        for leg, strands in legs.values():
            if leg.next == frame:
                self._run(leg, strands)
        self._park()

    def _run(self, leg: Leg, strands: Sequence[Strand]) -> None:
        until = max((s.tracklet.end for s in strands), key=lambda end: end * leg.slot.step)
        self._clock += 1
        leg.used = self._clock
        frame = leg.next
        try:
            final = leg.advance(until, self.version)
        except FrameUnreadable as error:
            self._outbox.warn(messages.frame_unreadable(error.index, str(error)))
            try:
                for at, version, sightings in leg.cut():
                    self._collect(leg, at, version, sightings)
            except EngineFailed as failure:
                log.warning("what an engine held back is lost: %s", failure)
            self._drop(leg, strands, for_good=True)
            return
        except EngineFailed as error:
            log.warning("an engine for %s failed on frame %d: %s", leg.kind, frame, error)
            if self._drop(leg, strands):
                low, high = min(frame, until), max(frame, until)
                self._outbox.warn(messages.engine_failed(leg.kind, (low, high), str(error)))
            return
        for at, version, sightings in final:
            self._collect(leg, at, version, sightings)

    def _drop(self, leg: Leg, strands: Iterable[Strand], for_good: bool = False) -> bool:
        """The leg is no good any more. True when its strands will not be tried again by themselves. That an engine failed
        says nothing about its objects: nothing is written or cleared, and their frames stay to be done."""
        if leg in self._legs:
            self._legs.remove(leg)
        given_up = False
        for strand in strands:
            if self.lines.failed_once_more(strand, for_good):
                given_up = True
                self._catch_up(strand)
        return given_up

    def _catch_up(self, strand: Strand) -> None:
        """An object's other figures do not wait for one that failed."""
        line = self.lines.by_object[strand.object_id]
        slot = strand.tracklet.slot
        todo = {t.slot: (t, wanted) for t, wanted in line.timeline.todo()}
        others = self.lines.expected(strand.object_id, strand.tracklet)
        if others and slot in todo and slot in line.pending:
            self._emit(strand.object_id, line, *todo[slot])

    # --- which runs there are ------------------------------------------------------------------------------------------

    def _waiting(self) -> list[tuple[int, int, Strand]]:
        """(step, next frame to look at, strand); a run that must begin anew looks at frames that are finished already."""
        found = []
        for strand in self.lines.strands():
            leg = self._leg_of(strand)
            slot = strand.tracklet.slot
            frame = slot.start + slot.step if leg is None else leg.next
            if (frame - strand.tracklet.end) * slot.step <= 0:  # beyond it, only other figures are waited for
                found.append((slot.step, frame, strand))
        return found

    def _leg_of(self, strand: Strand) -> Leg | None:
        slot = strand.tracklet.slot
        wanted = strand.next
        pending = self.lines.by_object[strand.object_id].pending.get(slot, {})
        for leg in self._legs:
            if leg.slot != slot or leg.kind != strand.kind or leg.ended:
                continue
            if leg.members.get(strand.object_id) != strand.tracklet.key.digest:
                continue
            # what it has seen beyond the wanted frame must be on its way: held back by it, or waiting for other figures
            first = min(leg.versions, key=lambda f: f * slot.step, default=leg.next)
            if (first - wanted) * slot.step <= 0 or wanted in pending:
                return leg
        return None

    def _begin(self, slot: Slot, kind: str, strands: Sequence[Strand]) -> list[Leg]:
        """Runs for strands that have none: one for all of them, or one for each when what one drew cannot be tracked."""
        engine = self.lines.options.engine_of(kind)
        assert engine is not None
        restored = self._restore(engine, slot, kind, strands)
        if restored is not None:
            return [restored]
        members = {s.object_id: s.tracklet.key.digest for s in strands}
        try:
            start = self._start(slot, kind, list(members), engine)
            leg = Leg.begin(engine, self.scene, kind, slot, members, start)
        except (PromptInvalid, EngineUnavailable) as error:
            if len(strands) > 1:
                return [leg for strand in strands for leg in self._begin(slot, kind, [strand])]
            self._outbox.warn(messages.cannot_start(members, slot.start, str(error)))
            self.lines.give_up(strands[0])
            return []
        except FrameUnreadable as error:
            self._outbox.warn(messages.cannot_start(members, slot.start, str(error)))
            for strand in strands:
                self.lines.give_up(strand)
            return []
        except EngineFailed as error:
            for strand in strands:
                if self.lines.failed_once_more(strand):
                    frames = strand.tracklet.frames
                    self._outbox.warn(messages.engine_failed(kind, frames, str(error)))
            return []
        self._legs.append(leg)
        return [leg]

    def _start(self, slot: Slot, kind: str, object_ids: Sequence[int], engine: Engine) -> Start:
        values = self.lines.values(object_ids, slot.start, kind)
        before: list[tuple[int, Mapping[str, Value]]] = []
        if getattr(engine, "extrapolates", False):
            ends = (slot.start - slot.step, slot.start - _BEFORE * slot.step)
            known = self.loader.predictions(object_ids, (max(0, min(ends)), max(ends)))
            frames = sorted({f for seeds in known.values() for f in seeds}, key=lambda f: abs(f - slot.start))
            before = [(f, self.lines.values(object_ids, f, kind, known)) for f in frames]
        elsewhere = looks(self.lines, self.loader, slot, object_ids, kind)
        extra = {
            figure_key(ident, number): seed.meta
            for ident in object_ids
            for number, seed in enumerate(self.lines.by_object[ident].seeds.get(slot.start, ()))
        }
        return Start(slot.start, slot.step, values, elsewhere, before, extra)

    def _park(self) -> None:
        """Runs with nothing to do stay for a while, because "continue" goes on with their memory; a few at a time."""
        busy = {id(leg) for strand in self.lines.strands() if (leg := self._leg_of(strand)) is not None}
        idle = sorted((leg for leg in self._legs if id(leg) not in busy), key=lambda leg: -leg.used)
        gone = {id(leg) for leg in idle if leg.ended} | {id(leg) for leg in idle[_MOST_PARKED:]}
        if gone:
            self._legs = [leg for leg in self._legs if id(leg) not in gone]

    # --- what was seen -------------------------------------------------------------------------------------------------

    def _collect(self, leg: Leg, frame: int, version: int, sightings: Mapping[str, Sighting]) -> None:
        by_object: dict[int, dict[int, Sighting]] = defaultdict(dict)
        for key, sighting in sightings.items():
            object_id, number = parsed_key(key)
            by_object[object_id][number] = sighting
        for object_id, seen in by_object.items():
            if not self.lines.follows(leg, object_id):
                continue
            line = self.lines.by_object[object_id]
            todo = {t.slot: (t, wanted) for t, wanted in line.timeline.todo()}
            if leg.slot not in todo:
                continue
            tracklet, wanted = todo[leg.slot]
            step = leg.slot.step
            if (frame - wanted) * step < 0 or (frame - tracklet.end) * step > 0:
                continue  # finished before, or not wanted any more
            pending = line.pending.setdefault(leg.slot, {})
            _, have = pending.setdefault(frame, (version, {}))
            have.update(seen)
            self._emit(object_id, line, tracklet, wanted)

    def _emit(self, object_id: int, line: Line, tracklet: Tracklet, frame: int) -> None:
        """Gives out the frames of a tracklet whose figures are all there, in order."""
        slot = tracklet.slot
        pending = line.pending[slot]
        wanted = self.lines.expected(object_id, tracklet)
        while frame in pending and wanted <= pending[frame][1].keys():
            version, seen = pending.pop(frame)
            self._give(object_id, line, tracklet, frame, version, seen)
            line.timeline = line.timeline.advanced(tracklet, frame)
            frame += slot.step
        if not pending:
            del line.pending[slot]

    def _give(
        self, object_id: int, line: Line, tracklet: Tracklet, frame: int, version: int, seen: dict[int, Sighting]
    ) -> None:
        slot, together = tracklet.slot, seen
        seeds = line.seeds[slot.start]
        if slot.step > 0:
            self._rows.append((object_id, slot.start, frame, write_row(seen)))
            if len(self._rows) >= _ROWS_AT_ONCE:
                self.flush_rows()
        elif tracklet.facing is not None:
            self.flush_rows()
            ahead = read_row(self._journal.row(self.lines.options.track_id, object_id, tracklet.facing, frame))
            position = (frame - tracklet.facing) / (slot.start - tracklet.facing)
            together = dict(fused(ahead, seen, {n: seed.value for n, seed in enumerate(seeds)}, position))
        size = (self.scene.video.width, self.scene.video.height)
        sources = {number: seed.figure_id for number, seed in enumerate(seeds) if seed.figure_id}
        options = self.lines.options
        traced = self._traced(object_id, line, frame, together, seeds)
        figures = figures_of(together, object_id, frame, options.track_id, size, sources, options.hide, traced)
        self._outbox.put(frame, object_id, figures, len(seen), version)
        self._notice(object_id, line, frame, bool(figures))
        values = [s.value for s in together.values() if s.value is not None]
        boxes = [box for value in values if (box := bounds(to_geometry(value))) is not None] if figures else []
        if boxes:
            line.box = (frame, boxes[0])

    def _traced(
        self, object_id: int, line: Line, frame: int, seen: Mapping[int, Sighting], seeds: Sequence[Seed]
    ) -> dict[int, list[Polygon]]:
        """Outlines of what was drawn as a polygon and tracked as a mask. Tells the labeler, once, when such an outline falls
        into other parts or holes than were drawn."""
        found: dict[int, list[Polygon]] = {}
        for number, sighting in seen.items():
            drawn = seeds[number].value
            if not isinstance(drawn, Polygon) or not isinstance(sighting.value, Mask):
                continue
            found[number] = outlines(sighting.value)
            now = Topology.of(found[number])
            if now.parts and now != Topology.of([drawn]) and number not in line.retold:
                line.retold.add(number)
                self._outbox.warn(messages.other_topology(object_id, frame, now.parts, now.holes))
        return found

    def _notice(self, object_id: int, line: Line, frame: int, there: bool) -> None:
        """Tells the labeler, once, when an object stays away."""
        line.away = 0 if there else line.away + 1
        fps = self.scene.video.fps or 25.0
        if line.away == max(3, round(_AWAY_S * fps)):
            self._outbox.warn(messages.disappeared(object_id, frame))

    # --- what outlives a crash -----------------------------------------------------------------------------------------

    def flush_rows(self) -> None:
        if self._rows:
            self._journal.put_rows(self.lines.options.track_id, self._rows)
            self._rows = []

    def state(self) -> dict[str, Any]:
        """What the server does not know, for `Timeline.restored`."""
        return {"lines": {str(ident): line.timeline.to_json() for ident, line in self.lines.by_object.items()}}

    def snapshots(self) -> list[SavedLeg]:
        """Engine memory. What is not final is seen again, so it need not be saved."""
        self.flush_rows()
        return [SavedLeg(leg.facts(), leg.run.save()) for leg in self._legs if not leg.ended]

    def offer(self, legs: Sequence[SavedLeg]) -> None:
        """Runs saved before; those that still fit are gone on with when their turn comes."""
        self._saved_legs = legs

    def _restore(self, engine: Engine, slot: Slot, kind: str, strands: Sequence[Strand]) -> Leg | None:
        by_object = {s.object_id: s for s in strands}
        for saved in self._saved_legs:
            facts = saved.facts
            if (facts["kind"], facts["start"], facts["step"]) != (kind, slot.start, slot.step):
                continue
            members = {int(ident): str(digest) for ident, digest in facts["members"].items()}
            if not by_object.keys() <= members.keys() or not all(
                i in self.lines.by_object
                and (key := self.lines.by_object[i].timeline.keys.get(slot.start)) is not None
                and key.digest == digest
                for i, digest in members.items()
            ):
                continue
            held = {int(frame): 0 for frame in facts["versions"]}
            first = min(held, key=lambda f: f * slot.step, default=facts["position"] + slot.step)
            if any((first - s.next) * slot.step > 0 for s in strands):
                continue
            try:
                start = self._start(slot, kind, list(members), engine)
                run = engine.load(self.scene, start, saved.snapshot)
            except (ValueError, KeyError, TypeError, EngineUnavailable, EngineFailed, FrameUnreadable) as error:
                log.warning("an engine's snapshot is of no use: %s", error)
                continue
            self._saved_legs = [other for other in self._saved_legs if other is not saved]
            leg = Leg(kind, slot, members, start, run, facts["position"], held)
            self._legs.append(leg)
            return leg
        return None


def _order(entry: tuple[int, int]) -> tuple[int, int]:
    step, frame = entry
    return -step, frame * step
