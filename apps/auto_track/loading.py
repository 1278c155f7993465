"""From what a server holds to key figures, their values, and the frames without an object."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.auto_track import messages
from apps.auto_track.ranges import Ranges, union
from apps.auto_track.timeline import Key
from common.errors import PromptInvalid
from common.geometry.shapes import Value
from common.geometry.supervisely import from_json, known_type, to_json
from common.supervisely_io.figures import figures, figures_by_id
from common.supervisely_io.projects import NO_OBJECTS, ProjectRecord, objects
from common.supervisely_io.records import FigureRecord, ObjectRecord, VideoRecord
from common.supervisely_io.server import Server

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Seed:
    """One figure that tracking starts from. figure_id: 0 for one that was only just made. kind: whose engine tracks it: a geometry type, or "smarttool"."""

    figure_id: int
    kind: str
    value: Value = field(hash=False)
    meta: Mapping[str, Any] = field(default_factory=dict, hash=False)


Seeds = dict[int, dict[int, list[Seed]]]
"""By object, then by frame."""


@dataclass(frozen=True)
class Loader:
    """Reads one video. warn: told of everything that is left out."""

    server: Server
    video: VideoRecord
    project: ProjectRecord
    warn: Warn

    def drawn(self, object_ids: Sequence[int], frames: tuple[int, int]) -> Seeds:
        """The key figures of these objects on those frames (first and last, both within)."""
        listed = figures(self.server, self.video, object_ids, frames, geometry=False)
        wanted = [figure.id for figure in listed if figure.by_person]
        found = figures_by_id(self.server, self.video.dataset_id, wanted) if wanted else {}
        return self._seeds(figure for figure in found.values() if figure.by_person)

    def near(self, object_ids: Sequence[int], frame: int, reach: int, most: int) -> Seeds:
        """Key figures of these objects on other frames, at most `reach` away; of each the `most` nearest frames each way."""
        listed = figures(self.server, self.video, object_ids, (max(0, frame - reach), frame + reach), geometry=False)
        by_object: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for figure in listed:
            if figure.by_person and figure.frame != frame:
                by_object[figure.object_id][figure.frame].append(figure.id)
        wanted: list[int] = []
        for frames in by_object.values():
            before, after = sorted(f for f in frames if f < frame), sorted(f for f in frames if f > frame)
            wanted += [ident for near in (*before[-most:], *after[:most]) for ident in frames[near]]
        found = figures_by_id(self.server, self.video.dataset_id, wanted) if wanted else {}
        return self._seeds(figure for figure in found.values() if figure.by_person)

    def any_on(self, object_ids: Sequence[int], frame: int) -> Seeds:
        """Figures of these objects on one frame, predictions too."""
        return self._seeds(figures(self.server, self.video, object_ids, (frame, frame)))

    def predictions(self, object_ids: Sequence[int], frames: tuple[int, int]) -> Seeds:
        """All figures of these objects, of people and trackers."""
        return self._seeds(figures(self.server, self.video, object_ids, frames))

    def objects(self, object_ids: Sequence[int]) -> dict[int, ObjectRecord]:
        """Those that are still there."""
        return {o.id: o for o in objects(self.server, self.video, object_ids, self.project)} if object_ids else {}

    def of_track(self, track_id: str, frame: int) -> list[int]:
        """Objects that a tracking wrote on a frame."""
        found = figures(self.server, self.video, None, (frame, frame), geometry=False)
        return sorted({figure.object_id for figure in found if figure.track_id == track_id})

    def absent(self, record: ObjectRecord) -> Ranges:
        """Frames of the object's no-objects tags."""
        whole = (0, self.video.frames - 1)
        return union([whole if frames is None else frames for frames in record.tagged(NO_OBJECTS)])

    def _seeds(self, found: Iterable[FigureRecord]) -> Seeds:
        seeds: Seeds = defaultdict(dict)
        for figure in sorted(found, key=lambda f: f.id):
            known = self.project.classes.get(figure.class_id)
            bones = () if known is None else known.bones
            try:
                value = from_json(figure.geometry_type, figure.geometry, self.video.width, self.video.height, bones)
            except PromptInvalid as error:
                self.warn(messages.damaged(figure.object_id, figure.frame, str(error)))
                continue
            seed = Seed(figure.id, kind_of(figure), value, figure.meta)
            seeds[figure.object_id].setdefault(figure.frame, []).append(seed)
        return seeds


def kind_of(figure: FigureRecord) -> str:
    """Which engine a figure needs. The Smart Tool's figures are followed by their clicks, unless it was switched off."""
    smart = figure.meta.get("smartToolInput")
    if figure.geometry_type == "bitmap" and isinstance(smart, dict) and smart.get("visible", True):
        return "smarttool"
    return known_type(figure.geometry_type) or figure.geometry_type


def key_of(seeds: Sequence[Seed], adopted: bool = False) -> Key:
    """What a timeline knows of them; the digest differs when a person changed any."""
    parts = []
    for seed in seeds:
        try:
            geometry = to_json(seed.value)
        except ValueError:  # an empty mask
            geometry = {}
        parts.append([seed.kind, geometry, seed.meta.get("smartToolInput")])
    text = json.dumps(parts, sort_keys=True, default=str)
    return Key(hashlib.blake2s(text.encode(), digest_size=12).hexdigest(), len(seeds), adopted)
