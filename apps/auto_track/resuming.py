"""Going on where an earlier session of the same track ended, whether it crashed or waited long enough."""

from __future__ import annotations

from typing import Any

from apps.auto_track.journal import Saved
from apps.auto_track.loading import Loader, key_of
from apps.auto_track.ranges import union
from apps.auto_track.timeline import Timeline
from apps.auto_track.tracking import Tracking
from common.supervisely_io.records import VideoRecord


def restore(saved: Saved, tracking: Tracking, loader: Loader, video: VideoRecord, all_of_it: bool) -> int | None:
    """The timelines become what they were, with what is on the server by now; the first frame that is left to do.

    all_of_it: what was asked for and not done is done now; otherwise only what was finished is remembered.
    """
    lines: dict[str, Any] = dict(saved.state.get("lines") or {})
    records = loader.objects([int(ident) for ident in lines])
    first: int | None = None
    for ident, found in records.items():
        data = lines[str(ident)] if all_of_it else _finished_only(lines[str(ident)])
        wanted = union([tuple(r) for r in data["forward"]], [tuple(r) for r in data["backward"]])
        if not wanted:
            continue
        span = (wanted[0][0], wanted[-1][1])
        seeds = loader.drawn([ident], span).get(ident, {})
        keys = {f: key_of(s) for f, s in seeds.items()}
        for frame in data["adopted"]:
            here = loader.any_on([ident], frame).get(ident, {}).get(frame, [])
            if frame not in keys and here:
                keys[frame], seeds[frame] = key_of(here, adopted=True), here
        change = Timeline(ident, video.frames, keys, absent=loader.absent(found)).restored(data)
        tracking.change(ident, change, seeds)
        ends = [frame for _, frame in change.timeline.todo()]
        first = min([*ends, *([] if first is None else [first])], default=first)
    tracking.offer(saved.legs)
    return first


def _finished_only(data: dict[str, Any]) -> dict[str, Any]:
    """A saved timeline without what was asked for and not done."""
    spans: dict[int, list[tuple[int, int]]] = {1: [], -1: []}
    for start, step, _, last, _, _ in data["done"]:
        spans[step].append((min(start, last), max(start, last)))
    return {**data, "forward": union(spans[1]), "backward": union(spans[-1])}
