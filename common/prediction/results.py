"""What a video's journal says in the end: every object with one class, and its geometry on every frame; repaired or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from common.association.contract import Tracks
from common.association.offline.decisions import Repaired
from common.detection.contract import Finds
from common.geometry.types import Box, Geometry, OrientedBox
from common.prediction.journal import Journal
from common.prediction.mending import mended
from common.prediction.settings import PredictionSettings
from common.video.contract import VideoInfo

UNNAMED = "object"
"""Class of what a detector finds without knowing what it is."""


FORWARD_ONLY = (
    " Identities were repaired as seen from the beginning only: an earlier version began this job and did not keep what seeing"
    " them from the end needs. Run it anew for that."
)


@dataclass(frozen=True)
class Identity:
    """One object of the video. first, last: frames. boxes: on how many frames it is."""

    id: int
    class_name: str
    first: int
    last: int
    boxes: int


@dataclass(frozen=True)
class Seen:
    """One object on one frame. box: where it is. geometry: what the detector drew, None for a frame filled in by repair
    where that is neither box nor oriented box. filled: no detection stands behind it."""

    id: int
    box: Box
    geometry: Geometry | None
    score: float
    filled: bool


class Results:
    """Reads a finished journal. With repair, the boxes of the whole video (some hundred bytes each) are in memory; else some
    thousand of them. Masks, keypoints and detections stay on disk. stop: raises `Interrupted` when it is set meanwhile."""

    def __init__(
        self,
        journal: Journal,
        settings: PredictionSettings,
        info: VideoInfo,
        stop: threading.Event | None = None,
    ) -> None:
        self._journal, self._info = journal, info
        self.finds: Finds = journal.finds
        self.repaired: Repaired | None = None
        self.note: str | None = None
        """What to tell about the repair."""
        if settings.repair:
            self.repaired = mended(journal, settings, info, stop)
            if settings.both_ends and not journal.keeps_all:
                self.note = FORWARD_ONLY

    @property
    def seconds(self) -> float:
        return self._journal.seconds

    @cached_property
    def identities(self) -> dict[int, Identity]:
        """By id."""
        rows = self._journal.identities() if self.repaired is None else _spans(self.repaired.tracks)
        names = self._journal.classes
        return {
            identity: Identity(identity, _name(names, label), first, last, boxes)
            for identity, label, first, last, boxes in rows
        }

    def frames(self) -> Iterator[tuple[int, list[Seen]]]:
        """By rising frame; frames without objects are left out."""
        detailed = self.finds in ("mask", "keypoints")
        for tracks in self._journal.frames() if self.repaired is None else _by_frame(self.repaired.tracks):
            frame = int(tracks.frames[0])
            drawn = self._journal.geometries(frame) if detailed else {}
            yield frame, [self._seen(tracks, n, drawn) for n in range(len(tracks))]

    def _seen(self, tracks: Tracks, n: int, drawn: dict[int, Geometry]) -> Seen:
        row = int(tracks.rows[n])
        box = Box(tracks.xyxy[n])
        geometry: Geometry | None = box
        if self.finds in ("mask", "keypoints"):
            geometry = drawn.get(row) if row >= 0 else None
        elif tracks.oriented is not None:
            turned = tracks.oriented[n]
            geometry = OrientedBox(np.maximum(turned[:4], (-np.inf, -np.inf, 0, 0)), float(turned[4]))
        return Seen(int(tracks.ids[n]), box, geometry, float(tracks.scores[n]), row < 0)


def _name(names: tuple[str, ...], label: int) -> str:
    return (names[label] if label < len(names) else f"class {label}") or UNNAMED


def _by_frame(tracks: Tracks) -> Iterator[Tracks]:
    """Sorted by frame already."""
    if len(tracks):
        for rows in np.split(np.arange(len(tracks)), np.flatnonzero(np.diff(tracks.frames)) + 1):
            yield tracks.keep(rows)


def _spans(tracks: Tracks) -> list[tuple[int, int, int, int, int]]:
    ids, where = np.unique(tracks.ids, return_inverse=True)
    first = np.full(len(ids), np.iinfo(np.int64).max)
    last = np.full(len(ids), -1)
    np.minimum.at(first, where, tracks.frames)
    np.maximum.at(last, where, tracks.frames)
    label = np.zeros(len(ids), np.int64)
    label[where] = tracks.classes  # one class for all of a repaired track
    count = np.bincount(where, minlength=len(ids))
    return list(zip(ids.tolist(), label.tolist(), first.tolist(), last.tolist(), count.tolist(), strict=True))
