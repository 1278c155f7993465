"""What people drew on a video of a server, as plain rows that a job keeps, and as the support set made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import PromptInvalid
from common.geometry.supervisely import from_json
from common.labeling.support import Example, Labelled, SupportSet
from common.supervisely_io.figures import figures, figures_by_id
from common.supervisely_io.projects import objects, project
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.video.contract import FrameSource

Rows = list[list[Any]]
"""JSON: frame, object id, class name, geometry type, geometry."""
Drawn = dict[str, Any]
"""JSON. rows: `Rows`. complete: frames on which everything counts as labelled."""
Given = dict[int, tuple[Labelled, ...]]
"""By frame; keys of the labels are ids of objects."""

_AT_ONCE = 500
_CORRECTED = 12
"""Frames with corrections that are learned from and measured on, at most."""


def drawn(server: Server, video: VideoRecord) -> Drawn:
    """Complete are the frames on which only people drew: where trackers drew too, a person may have mended one object and
    left out others. Geometry of what trackers wrote, which may be nearly all of it, is never read."""
    own: dict[int, int] = {}
    theirs: set[int] = set()
    for one in figures(server, video, geometry=False):
        if one.by_person:
            own[one.id] = one.frame
        else:
            theirs.add(one.frame)
    names = {}
    if own:
        names = {one.id: one.class_name for one in objects(server, video, names=project(server, video.project_id))}
    rows: Rows = []
    idents = list(own)
    for start in range(0, len(idents), _AT_ONCE):
        for figure in figures_by_id(server, video.dataset_id, idents[start : start + _AT_ONCE]).values():
            if figure.object_id in names:
                name = names[figure.object_id]
                rows.append([figure.frame, figure.object_id, name, figure.geometry_type, dict(figure.geometry)])
    rows.sort(key=lambda row: (row[0], row[1]))
    return {"rows": rows, "complete": sorted(set(own.values()) - theirs)}


def labels(kept: Drawn, video: VideoRecord) -> Given:
    """Shapes that the suite does not know are left out."""
    found: dict[int, list[Labelled]] = {}
    for frame, ident, name, kind, geometry in kept["rows"]:
        try:
            value = from_json(kind, geometry, video.width, video.height)
        except PromptInvalid:
            continue
        found.setdefault(int(frame), []).append(Labelled(str(ident), name, value))
    return {frame: tuple(labels) for frame, labels in found.items()}


def complete(kept: Drawn, frames: Sequence[int] | None = None) -> list[int]:
    """Frames on which everything is labelled: those that the caller named, else those that look like it, else all with
    labels of people."""
    if frames is not None:
        return sorted(set(frames))
    return list(kept["complete"]) or sorted({row[0] for row in kept["rows"]})


def support_set(
    given: Given,
    source: FrameSource,
    chosen: Sequence[int],
    text: Mapping[str, Sequence[str]] | None = None,
    classes: tuple[str, ...] | None = None,
) -> SupportSet:
    """chosen: frames on which everything is labelled, rising; on others people corrected some. classes: only these, in this
    order; None = all.
    Raises `PromptInvalid` when nothing is labelled, a frame does not exist, or words are given for a class that is not."""
    if chosen and chosen[-1] >= source.info.frames:
        raise PromptInvalid(f"There is no frame {chosen[-1]}: the video has {source.info.frames}, numbered from 0.")
    shown = {frame: given.get(frame, ()) for frame in chosen}
    names = classes or tuple(dict.fromkeys(label.class_name for own in shown.values() for label in own))
    unknown = [name for name in text or () if name not in names]
    if unknown:
        raise PromptInvalid(f"Words are given for {unknown[0]}, but only {', '.join(names)} are labelled.")
    corrected = [frame for frame in sorted(given) if frame not in shown and frame < source.info.frames]
    if len(corrected) > _CORRECTED:  # evenly
        corrected = [corrected[place * len(corrected) // _CORRECTED] for place in range(_CORRECTED)]
    everything = {**shown, **{frame: given[frame] for frame in corrected}}
    examples = tuple(
        Example(
            lambda frame=frame: source.read(frame),  # type: ignore[misc]
            tuple(label for label in own if label.class_name in names),
            frame,
            source,
            frame not in shown,
        )
        for frame, own in everything.items()
    )
    return SupportSet(examples, names, {name: tuple(words) for name, words in (text or {}).items()})


def told(support: SupportSet) -> dict[str, Any]:
    """For people: what the set holds."""
    seen: dict[str, set[str]] = {name: set() for name in support.classes}
    drawn_on = dict.fromkeys(support.classes, 0)
    complete = [example for example in support.examples if not example.partial]
    for example in complete:
        for label in example.labels:
            seen[label.class_name].add(label.key)
            drawn_on[label.class_name] += 1
    return {
        "classes": [{"name": n, "objects": len(seen[n]), "labels": drawn_on[n]} for n in support.classes],
        "frames": [{"frame": example.frame, "labels": len(example.labels)} for example in complete],
        "labels": sum(len(example.labels) for example in complete),
        "corrected": len(support.examples) - len(complete),
        "masks": support.outlined,
    }
