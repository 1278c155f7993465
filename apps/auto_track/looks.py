"""What objects look like on other key figures than the one a run starts from: trackers take these for exemplars.

A handful of calls at most for a run, however many frames or objects there are, and none where the frames that people want
tracked have enough. What is found depends on what is on the server and what was asked for alone, so that a session that is
taken up again starts its runs from the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from apps.auto_track.lines import Lines
from apps.auto_track.loading import Loader, Seed
from apps.auto_track.ranges import within
from apps.auto_track.timeline import Slot
from common.geometry.shapes import Value
from common.tracking.plan import MAX_EXEMPLARS

_NEAR = 200
"""Frames. Farther away an object looks different anyway."""

_MOST_LISTED = 2000
"""Figures: of many objects only nearer key figures are looked for, so that they are listed in a few calls."""


def looks(
    lines: Lines, loader: Loader, slot: Slot, object_ids: Sequence[int], kind: str
) -> list[tuple[int, dict[str, Value]]]:
    """Key figures of one kind near to where a run starts, nearest frame first, `MAX_EXEMPLARS` frames at most, among them
    the nearest of those ahead. Values by key, as for `Start.values`.

    Objects that have no other one near among the frames that people want tracked are looked for on the server. A frame
    with more or fewer figures of an object says nothing of it: which is which is not known.
    """
    found: dict[int, Mapping[int, list[Seed]]] = {}
    for ident in object_ids:
        line = lines.by_object[ident]
        wanted = (f for f in line.timeline.keys if f != slot.start and within(line.timeline.wanted, f) is not None)
        found[ident] = {frame: line.seeds[frame] for frame in wanted if frame in line.seeds}
    missing = [i for i, known in found.items() if all(abs(frame - slot.start) > _NEAR for frame in known)]
    if missing:
        reach = min(_NEAR, _MOST_LISTED // (2 * len(missing)))
        for ident, near in loader.near(missing, slot.start, reach, MAX_EXEMPLARS).items():
            found[ident] = {**near, **found[ident]}
    by_frame: dict[int, dict[str, Value]] = defaultdict(dict)
    for ident, seeds in found.items():
        for frame, here in seeds.items():
            if len(here) == len(lines.by_object[ident].seeds.get(slot.start, ())):
                by_frame[frame] |= lines.values([ident], frame, kind, found)
    return _nearest({frame: values for frame, values in by_frame.items() if values}, slot)


def _nearest(by_frame: Mapping[int, dict[str, Value]], slot: Slot) -> list[tuple[int, dict[str, Value]]]:
    frames = sorted(by_frame, key=lambda frame: (abs(frame - slot.start), frame))
    chosen = frames[:MAX_EXEMPLARS]
    ahead = next((frame for frame in frames if (frame - slot.start) * slot.step > 0), None)
    if ahead is not None and ahead not in chosen:
        chosen[-1] = ahead
    return [(frame, by_frame[frame]) for frame in chosen]
