"""What people ask for while a track runs, applied to its timelines: more to track, figures drawn or removed, tags set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from apps.auto_track import messages
from apps.auto_track.loading import Loader, Seed, Warn, key_of
from apps.auto_track.newcomers import Lookout
from apps.auto_track.timeline import Key, Timeline
from apps.auto_track.tracking import Tracking
from apps.auto_track.updates import (
    Continue,
    FiguresRemoved,
    KeyChanged,
    MetaChanged,
    TagsChanged,
    TrackMore,
    Update,
)
from common.supervisely_io.figures import figures_by_id
from common.supervisely_io.projects import project
from common.supervisely_io.records import VideoRecord


class Desk:
    """Takes updates in order, on the session's thread. lookout: looks for new objects, None while nobody wants that."""

    def __init__(self, tracking: Tracking, loader: Loader, video: VideoRecord, warn: Warn) -> None:
        self.loader = loader
        self.lookout: Lookout | None = None
        self._tracking, self._video, self._warn = tracking, video, warn
        self._look_again: set[tuple[int, int]] = set()

    def apply(self, update: Update) -> None:
        match update:
            case TrackMore():
                self._track_more(update)
            case Continue():
                self._continue(update)
            case FiguresRemoved(object_id=ident, frames=frames):
                line = self._tracking.line(ident)
                if line is not None and ident not in self.loader.objects([ident]):
                    self._tracking.forget(ident)
                elif line is not None:
                    seeds = {f: s for f, s in self._tracking.seeds(ident).items() if not frames[0] <= f <= frames[1]}
                    self._tracking.change(ident, line.figures_removed(frames), seeds)
            case KeyChanged(object_id=ident, frame=frame):
                self._key_changed(ident, frame)
            case TagsChanged(object_id=ident):
                line = self._tracking.line(ident)
                found = self.loader.objects([ident]).get(ident) if line is not None else None
                if line is not None and found is not None:
                    change = line.changed(absent=self.loader.absent(found))
                    self._tracking.change(ident, change, self._tracking.seeds(ident))
            case MetaChanged():
                self.loader = replace(self.loader, project=project(self.loader.server, self._video.project_id))
                self._tracking.loader = self.loader
                if self.lookout is not None:
                    self.lookout.loader = self.loader

    def look_again(self, object_id: int, frame: int) -> KeyChanged | None:
        """Something kept a figure out: a person's stands there, of which nobody told. It is a key figure. None when that
        was noticed before. From any thread."""
        if (object_id, frame) in self._look_again:
            return None
        self._look_again.add((object_id, frame))
        return KeyChanged(object_id, frame)

    def _track_more(self, update: TrackMore) -> None:
        record = self._video
        if update.frame >= record.frames:
            self._warn(messages.beyond(update.frame, record.frames))
            return
        span = _span(update.frame, update.frames, update.direction, record.frames)
        named = figures_by_id(self.loader.server, record.dataset_id, update.figure_ids, geometry=False)
        idents = {*update.object_ids, *(figure.object_id for figure in named.values())}
        records = self.loader.objects(sorted(idents))
        gone = idents - records.keys()
        if gone:
            self._warn(messages.gone(gone))
        drawn = self.loader.drawn(list(records), span)
        adopt: list[int] = []
        for ident in records:
            line = self._tracking.line(ident)
            here = drawn.get(ident, {})
            if update.frame not in here and not (
                line is not None and line.covers(update.frame, _way(update.direction))
            ):
                adopt.append(ident)
        predicted = self.loader.any_on(adopt, update.frame) if adopt else {}
        for ident, found in records.items():
            line = self._tracking.line(ident) or Timeline(ident, record.frames, absent=self.loader.absent(found))
            old = self._tracking.seeds(ident)
            keys, seeds = _keys(line, old, drawn.get(ident, {}), span)
            if ident in adopt:
                found_there = predicted.get(ident, {}).get(update.frame, [])
                if found_there:
                    keys[update.frame] = key_of(found_there, adopted=True)
                    seeds[update.frame] = found_there
                else:
                    self._warn(messages.no_figure(ident, update.frame))
            if keys:
                change = line.asked(update.frame, update.frames, update.direction, keys)
                self._tracking.change(ident, change, seeds)
        self._also_look(update.frame, span[1], update.direction)

    def _continue(self, update: Continue) -> None:
        span = _span(update.frame, update.frames, update.direction, self._video.frames)
        lines = {i: line for i in self._tracking.object_ids if (line := self._tracking.line(i)) is not None}
        going = {i: line for i, line in lines.items() if line.covers(update.frame, _way(update.direction))}
        drawn = self.loader.drawn(list(going), span)
        for ident, line in going.items():
            keys, seeds = _keys(line, self._tracking.seeds(ident), drawn.get(ident, {}), span)
            change = line.asked(update.frame, update.frames, update.direction, keys)
            self._tracking.change(ident, change, seeds)
        self._also_look(update.frame, span[1], update.direction)

    def _also_look(self, frame: int, end: int, direction: str) -> None:
        if self.lookout is not None and direction != "backward":
            self.lookout.want(frame, end)
        self._tracking.lines.try_again()

    def _key_changed(self, ident: int, frame: int) -> None:
        line = self._tracking.line(ident)
        self._look_again.discard((ident, frame))
        if line is None:
            return
        here = self.loader.drawn([ident], (frame, frame)).get(ident, {}).get(frame, [])
        old = line.keys.get(frame)
        key = key_of(here) if here else None
        if key == old or (key is None and old is None):
            return
        seeds = {f: s for f, s in self._tracking.seeds(ident).items() if f != frame}
        if here:
            seeds[frame] = here
        self._tracking.change(ident, line.key_changed(frame, key), seeds)


def _keys(
    line: Timeline, old: Mapping[int, list[Seed]], drawn: Mapping[int, list[Seed]], span: tuple[int, int]
) -> tuple[dict[int, Key], dict[int, list[Seed]]]:
    """Key figures after those on `span` were read anew; predictions that were tracked from stay where nobody drew."""
    kept = {f: key for f, key in line.keys.items() if not span[0] <= f <= span[1] or (key.adopted and f not in drawn)}
    keys = {**kept, **{f: key_of(seeds) for f, seeds in drawn.items()}}
    return keys, {**{f: old[f] for f in kept if f in old}, **drawn}


def _span(frame: int, frames: int, direction: str, total: int) -> tuple[int, int]:
    low = max(0, frame - frames) if direction in ("backward", "both") else frame
    high = min(total - 1, frame + frames) if direction in ("forward", "both") else frame
    return low, high


def _way(direction: str) -> str:
    return "backward" if direction == "backward" else "forward"
