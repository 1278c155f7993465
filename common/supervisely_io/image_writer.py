"""Predictions onto images, in the way that was asked for: beside the labels that are there, instead of them, or where they
leave room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from common.errors import PromptInvalid
from common.geometry.covering import Named, covered
from common.geometry.meta import ObjectClass
from common.geometry.shapes import Value
from common.supervisely_io.classes import ProjectClasses
from common.supervisely_io.figures import remove_figures
from common.supervisely_io.image_labels import LabelRecord, NewLabel, add_labels, labels
from common.supervisely_io.images import ImageRecord
from common.supervisely_io.server import Server

Mode = Literal["append", "replace", "iou_merge"]
CONFIDENCE, MODEL = "confidence", "model"


@dataclass(frozen=True)
class Found:
    """One prediction. score: 0..1, None when there is none."""

    object_class: ObjectClass
    value: Value
    score: float | None = None


@dataclass(frozen=True)
class Written:
    """added: labels made. covered: predictions that were labels already. removed: labels that were replaced."""

    added: int = 0
    covered: int = 0
    removed: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.added + other.added, self.covered + other.covered, self.removed + other.removed)


class ImageWriter:
    """Owned by one thread; for one project. threshold: overlap from which a prediction is a label that is there.
    tags: put on each label: "confidence" and "model" (its name)."""

    def __init__(
        self,
        server: Server,
        project_id: int,
        mode: Mode,
        *,
        suffix: str = "_model",
        threshold: float = 0.9,
        tags: Sequence[str] = (),
        model: str = "",
    ) -> None:
        self._server, self._project, self._mode, self._threshold = server, project_id, mode, threshold
        self._tags, self._model = tuple(tags), model
        self._classes = ProjectClasses(server, project_id, suffix)

    def present(self, dataset_id: int, idents: Sequence[int]) -> dict[int, list[int]]:
        """Ids of the labels that are there, by image: what `write` must know to go on after being cut off."""
        found = labels(self._server, dataset_id, idents)
        return {ident: [label.id for label in found.get(ident, ())] for ident in idents}

    def write(
        self,
        dataset_id: int,
        entries: Sequence[tuple[ImageRecord, Sequence[Found]]],
        before: Mapping[int, Sequence[int]] | None = None,
    ) -> Written:
        """Images of one dataset. before: what `present` said before the first attempt; None = this is the first.

        Labels that were there are never changed; they are removed only in mode "replace", after the new ones are stored.
        """
        idents = [image.id for image, _ in entries]
        there: dict[int, list[LabelRecord]] = {}
        if before is None or self._mode == "iou_merge":
            there = labels(self._server, dataset_id, idents)
        if before is None:
            before = {ident: [label.id for label in there.get(ident, ())] for ident in idents}
        new: list[NewLabel] = []
        left_out = 0
        for image, found in entries:
            old = [label for label in there.get(image.id, ()) if label.id in set(before.get(image.id, ()))]
            kept = self._kept(image, found, old)
            left_out += len(found) - len(kept)
            new += [NewLabel(image, self._classes.record(f.object_class).id, f.value, self._tagged(f)) for f in kept]
        added = add_labels(self._server, self._project, dataset_id, new, before)
        removed = 0
        if self._mode == "replace":
            gone = [ident for idents in before.values() for ident in idents]
            remove_figures(self._server, gone)
            removed = len(gone)
        return Written(added, left_out, removed)

    def _kept(self, image: ImageRecord, found: Sequence[Found], old: Sequence[LabelRecord]) -> list[Found]:
        if self._mode != "iou_merge" or not old:
            return list(found)
        there: list[Named] = []
        for label in old:
            try:
                value = label.value(image.width, image.height, self._classes.bones(label.class_id))
                there.append((label.class_name, value))
            except PromptInvalid:
                continue  # a shape that nothing here could overlap with
        named = [(self._classes.record(f.object_class).name, f.value) for f in found]
        same = covered(named, there, self._threshold)
        return [f for f, known in zip(found, same, strict=True) if not known]

    def _tagged(self, found: Found) -> tuple[tuple[int, str | float], ...]:
        tags: list[tuple[int, str | float]] = []
        if CONFIDENCE in self._tags and found.score is not None:
            ident = self._classes.tag(CONFIDENCE, "any_number")
            if ident is not None:
                tags.append((ident, round(found.score, 4)))
        if MODEL in self._tags and self._model:
            ident = self._classes.tag(MODEL, "any_string")
            if ident is not None:
                tags.append((ident, self._model))
        return tuple(tags)
