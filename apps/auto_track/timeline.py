"""What of one object needs tracking, and what a person's change makes of it. Pure: no server, no pictures, no clock.

A timeline's *inputs* are what people say: key figures, frames without the object, frames that they want tracked. From the
inputs alone follows which tracklets there are. What was tracked already is remembered by tracklet; every change of the
inputs compares it with the new tracklets and says what stays, what must be done again and what must go. So the order in
which changes arrive does not matter, and a restart after a crash is the same as a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from apps.auto_track.ranges import Range, Ranges, common, size, subtract, union, within


@dataclass(frozen=True)
class Key:
    """The figures that tracking can start from on one frame. digest: differs when any of them differs. figures: how many.
    adopted: they were predictions which a person chose to track on from."""

    digest: str
    figures: int = 1
    adopted: bool = False


@dataclass(frozen=True)
class Slot:
    """Names a tracklet of an object: the key figure's frame and the way, +1 forward or -1 backward."""

    start: int
    step: int


@dataclass(frozen=True)
class Tracklet:
    """One run from a key figure. end: its last frame, in the direction of travel. facing: the key figure's frame at the
    other side of the gap, None for one that runs into the open; the gap is then tracked from there, too."""

    slot: Slot
    end: int
    key: Key
    facing: int | None = None
    facing_digest: str = ""

    @property
    def frames(self) -> Range:
        """First and last predicted frame, ascending."""
        first = self.slot.start + self.slot.step
        return min(first, self.end), max(first, self.end)


@dataclass(frozen=True)
class Done:
    """How far a tracklet has come. last: last finished frame in the direction of travel; the rest: what it was made from."""

    digest: str
    last: int
    facing: int | None = None
    facing_digest: str = ""


@dataclass(frozen=True)
class Change:
    """stale: frames where predictions on their way must not be written any more. clear: frames where predictions must go."""

    timeline: Timeline
    stale: Ranges = ()
    clear: Ranges = ()


@dataclass(frozen=True)
class Timeline:
    """One object. keys: by frame. absent: its no-objects tags. removed: figures that a person removed. forward, backward:
    frames that people want tracked that way; the frame of the key figure is in it. done: by tracklet."""

    object_id: int
    frames_total: int
    keys: Mapping[int, Key] = field(default_factory=dict)
    absent: Ranges = ()
    removed: Ranges = ()
    forward: Ranges = ()
    backward: Ranges = ()
    done: Mapping[Slot, Done] = field(default_factory=dict)

    @property
    def wanted(self) -> Ranges:
        return union(self.forward, self.backward)

    def tracklets(self) -> list[Tracklet]:
        """Everything to track, finished or not, in order of frames, forward before backward."""
        known: list[Tracklet] | None = self.__dict__.get("_known")
        if known is None:
            known = self._tracklets()
            self.__dict__["_known"] = known  # they follow from the inputs alone
        return known

    def _tracklets(self) -> list[Tracklet]:
        blocked = union(self.absent, self.removed)
        video = ((0, self.frames_total - 1),)
        wanted = common(self.wanted, video)
        found: list[Tracklet] = []
        for first, last in subtract(wanted, blocked):
            keyed = sorted(frame for frame in self.keys if first <= frame <= last)
            if not keyed:
                continue
            for a, b in pairwise(keyed):
                if b - a > 1:
                    found += [self._tracklet(a, 1, b - 1, b), self._tracklet(b, -1, a + 1, a)]
            found += self._open(keyed[-1], 1, last, blocked)
            found += self._open(keyed[0], -1, first, blocked)
        return sorted(found, key=lambda t: (-t.slot.step, t.slot.start))

    def _tracklet(self, start: int, step: int, end: int, facing: int | None) -> Tracklet:
        digest = "" if facing is None else self.keys[facing].digest
        return Tracklet(Slot(start, step), end, self.keys[start], facing, digest)

    def _open(self, start: int, step: int, end: int, blocked: Ranges) -> list[Tracklet]:
        """The run from the outermost key figure of a stretch to that stretch's end, if anybody asked for it."""
        asked = within(union(self.forward if step > 0 else self.backward), start)
        beyond = end + step
        if within(blocked, beyond) is not None and within(self.wanted, beyond) is not None:
            pass  # the object is said to be away beyond, so it is there up to the very frame
        elif asked is not None:
            end = min(end, asked[1]) if step > 0 else max(end, asked[0])
        else:
            return []
        return [self._tracklet(start, step, end, None)] if (end - start) * step > 0 else []

    def todo(self) -> list[tuple[Tracklet, int]]:
        """Tracklets with frames left, and the next frame of each."""
        left = []
        for tracklet in self.tracklets():
            done = self.done.get(tracklet.slot)
            next_frame = (tracklet.slot.start if done is None else done.last) + tracklet.slot.step
            if (tracklet.end - next_frame) * tracklet.slot.step >= 0:
                left.append((tracklet, next_frame))
        return left

    def steps_left(self) -> int:
        """Figures still to be predicted."""
        return sum((abs(t.end - frame) + 1) * t.key.figures for t, frame in self.todo())

    def advanced(self, tracklet: Tracklet, frame: int) -> Timeline:
        """`frame` of the tracklet is finished."""
        done = Done(tracklet.key.digest, frame, tracklet.facing, tracklet.facing_digest)
        new = replace(self, done={**self.done, tracklet.slot: done})
        new.__dict__["_known"] = self.tracklets()
        return new

    def changed(self, **inputs: Any) -> Change:
        """The same object after its inputs became these (any of the fields but `done`)."""
        new = replace(self, **inputs)
        tracklets = {t.slot: t for t in new.tracklets()}
        kept: dict[Slot, Done] = {}
        stale: list[Range] = []
        for slot, done in self.done.items():
            made = _span(slot, done.last)
            tracklet = tracklets.get(slot)
            if tracklet is None or not _still_good(slot, done, tracklet):
                stale.append(made)
                continue
            last = min(done.last * slot.step, tracklet.end * slot.step) * slot.step
            stale += subtract([made], [_span(slot, last)])
            if last != slot.start:
                kept[slot] = Done(done.digest, last, tracklet.facing, tracklet.facing_digest)
        new = replace(new, done=kept)
        covered = [t.frames for t in tracklets.values()]
        dropped = subtract(stale, covered)
        away = subtract(common(union(new.absent, new.removed), new.wanted), union(self.absent, self.removed))
        drawn = [(f, f) for f, key in new.keys.items() if not key.adopted and self.keys.get(f) != key]
        gone = union(stale, away, drawn)
        return Change(new, gone, union(dropped, away, drawn))

    # --- what people do ------------------------------------------------------------------------------------------------

    def asked(self, frame: int, frames: int, direction: str, keys: Mapping[int, Key]) -> Change:
        """Track: `frames` frames from `frame`, "forward", "backward" or "both". keys: all key figures there are now."""
        ahead = (frame, min(frame + frames, self.frames_total - 1))
        back = (max(frame - frames, 0), frame)
        forward = [ahead] if direction in ("forward", "both") else []
        backward = [back] if direction in ("backward", "both") else []
        return self.changed(
            keys=dict(keys),
            forward=union(self.forward, forward),
            backward=union(self.backward, backward),
            # whoever asks for frames again takes back that they were removed
            removed=subtract(self.removed, [*forward, *backward]),
        )

    def key_changed(self, frame: int, key: Key | None) -> Change:
        """A key figure was drawn, edited or (None) removed."""
        keys = {f: k for f, k in self.keys.items() if f != frame}
        if key is not None:
            keys[frame] = key
        return self.changed(keys=keys)

    def figures_removed(self, frames: Range) -> Change:
        """A person removed the object's figures on those frames; the key figures among them are gone."""
        keys = {f: k for f, k in self.keys.items() if not frames[0] <= f <= frames[1]}
        return self.changed(keys=keys, removed=union(self.removed, [frames]))

    def covers(self, frame: int, direction: str) -> bool:
        """Whether what is tracked or wanted that way reaches the frame, so that it can go on from there."""
        ranges = self.forward if direction == "forward" else self.backward
        return within([(a - 1, b + 1) for a, b in union(ranges)], frame) is not None

    # --- what outlives a crash -----------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """What the server does not know."""
        done = [[s.start, s.step, d.digest, d.last, d.facing, d.facing_digest] for s, d in self.done.items()]
        adopted = [frame for frame, key in self.keys.items() if key.adopted]
        wanted = {"forward": self.forward, "backward": self.backward, "removed": self.removed}
        return {**wanted, "done": done, "adopted": adopted}

    def restored(self, data: Mapping[str, Any]) -> Change:
        """This timeline, as read anew from the server, with what `to_json` told."""
        done = {Slot(a, s): Done(d, last, facing, other) for a, s, d, last, facing, other in data["done"]}
        names = ("forward", "backward", "removed")
        inputs: dict[str, Any] = {name: tuple((int(a), int(b)) for a, b in data[name]) for name in names}
        before = replace(self, done=done, **inputs)
        return before.changed()


def _span(slot: Slot, last: int) -> Range:
    first = slot.start + slot.step
    return (first, last) if slot.step > 0 else (last, first)


def _still_good(slot: Slot, done: Done, tracklet: Tracklet) -> bool:
    """Whether what was predicted is what would be predicted now."""
    if done.digest != tracklet.key.digest:
        return False
    if slot.step < 0:  # fused with what came from the other side
        return (done.facing, done.facing_digest) == (tracklet.facing, tracklet.facing_digest)
    # Forward predictions are kept apart, so a new key figure ahead only adds a side. One that went away took part.
    return done.facing is None or (tracklet.facing is not None and tracklet.facing <= done.facing)


__all__ = ["Change", "Done", "Key", "Slot", "Timeline", "Tracklet", "size"]
