"""Labels a whole video as planned, into a journal that survives being killed; then puts people's own figures back."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from common.association.contract import Tracks
from common.geometry.measures import bounds, box_iou
from common.geometry.shapes import to_geometry
from common.geometry.types import Box, Geometry
from common.labeling.belief import doubtful
from common.labeling.ends import continued
from common.labeling.plan import Plan, labelled_boxes
from common.labeling.support import Labelled, SupportSet
from common.prediction.journal import Journal
from common.prediction.looks import make_looks
from common.prediction.results import Results, Seen
from common.prediction.video import predict_video
from common.video.contract import FrameSource, VideoInfo
from common.weights.options import DEFAULT, EngineOptions

_ANCHORED = 0.5
"""IoU from which a found object is the labelled one."""


def label_video(
    source: FrameSource,
    plan: Plan,
    support: SupportSet | None,
    journal: Journal,
    *,
    options: EngineOptions = DEFAULT,
    stop: threading.Event | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> bool:
    """Fills the journal; False when `stop` ended it. See `predict_video`. support: whose figures on this very source are
    taken as they are."""
    given = labelled_boxes(support, source) if support is not None else {}
    settings = plan.settings(options)
    looks = None if plan.still else make_looks(plan.looks, options)
    detector = plan.video(given, options)
    # Not kept for a look at identities from the end (`keep`): what is put together from chunks has no such journal, and a video
    # is to be repaired the same way whether it was labelled in one go or in chunks. `Results.note` then speaks of an earlier
    # version, which is not so here: it is not told.
    return predict_video(source, detector, settings, journal, looks=looks, stop=stop, on_frame=on_frame)


def fingerprint(identity: bytes, plan: Plan, support: SupportSet | None, source: FrameSource | None = None) -> str:
    """Equal for equal jobs on the same video. identity: what makes the video itself."""
    digest = hashlib.sha256(identity + plan.save())
    if support is not None and source is not None:
        for frame, given in sorted(labelled_boxes(support, source).items()):
            digest.update(f"{frame} {given.boxes.tolist()} {given.classes.tolist()}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Found:
    """One object on one frame of the labelled video. key: of the person's object, or "a" and a number. labelled: a person
    drew it, and it is as they did. filled: no detection stands behind it. geometry: None where its area is not known."""

    key: str
    class_name: str
    box: Box
    geometry: Geometry | None
    score: float
    labelled: bool = False
    filled: bool = False


@dataclass(frozen=True)
class ObjectSpan:
    """key, class: of an object. first, last, frames: where it is, on how many. labelled: people drew it somewhere."""

    key: str
    class_name: str
    first: int
    last: int
    frames: int
    labelled: bool


class LabelledVideo:
    """What became of a video: the predictions where nobody labelled, people's figures where they did, one identity for both.

    given: what people labelled, by frame; all that is there, except on the frames in `partial`, where predictions stay
    that are nothing of theirs. info: of the video; with it, and with repair, objects are followed to where they come in and go out
    (`continued`). Memory: with repair the boxes of the whole video (60 bytes each), as `Results`.
    """

    def __init__(
        self,
        results: Results,
        given: Mapping[int, tuple[Labelled, ...]],
        partial: Collection[int] = (),
        info: VideoInfo | None = None,
    ) -> None:
        self._given, self._partial = given, frozenset(partial)
        if info is not None and results.repaired is not None:
            results = _with_tracks(results, continued(results.repaired.tracks, info, given))
        self._results = results
        self._anchors = self._meet()
        self._doubtful = doubtful(results, self._anchors)

    @property
    def results(self) -> Results:
        """Those that it was made from, with what was added where objects come in and go out."""
        return self._results

    def frames(self) -> Iterator[tuple[int, list[Found]]]:
        """By rising frame; frames without objects are left out."""
        waiting = sorted(self._given)
        for frame, seen in self._results.frames():
            while waiting and waiting[0] < frame:
                yield from self._of(waiting.pop(0), [])
            if waiting and waiting[0] == frame:
                waiting.pop(0)
            yield from self._of(frame, seen)
        for frame in waiting:
            yield from self._of(frame, [])

    def objects(self) -> list[ObjectSpan]:
        """By first frame."""
        spans: dict[str, list[int]] = {}
        names: dict[str, str] = {}
        drawn: set[str] = set()
        for frame, found in self.frames():
            for one in found:
                span = spans.setdefault(one.key, [frame, frame, 0])
                span[1], span[2] = frame, span[2] + 1
                names[one.key] = one.class_name
                if one.labelled:
                    drawn.add(one.key)
        return [
            ObjectSpan(key, names[key], first, last, count, key in drawn) for key, (first, last, count) in spans.items()
        ]

    def _of(self, frame: int, seen: Sequence[Seen]) -> Iterator[tuple[int, list[Found]]]:
        drawn = []
        for label in self._given.get(frame, ()):
            geometry = to_geometry(label.value)
            box = bounds(geometry)
            if box is not None:
                drawn.append(Found(label.key, label.class_name, box, geometry, 1.0, True))
        by_key: dict[str, Found] = {}
        if frame not in self._given or frame in self._partial:
            taken = {one.key for one in drawn}
            theirs = np.array([one.box.xyxy for one in drawn]).reshape(-1, 4)
            for one in seen:
                if one.id in self._doubtful:
                    continue
                key, name = self._named(one.id, frame, self._results.identities[one.id].class_name)
                if key in taken or (len(theirs) and box_iou(one.box.xyxy[None], theirs).max() > _ANCHORED):
                    continue
                if key not in by_key or by_key[key].score < one.score:
                    by_key[key] = Found(key, name, one.box, one.geometry, one.score, False, one.filled)
        if drawn or by_key:
            yield frame, [*drawn, *by_key.values()]

    def _meet(self) -> dict[int, list[tuple[int, str, str]]]:
        """Identity -> frame, key and class of the labels that it passes through."""
        anchors: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
        if not self._given:
            return anchors
        for frame, seen in self._results.frames():
            labels = [label for label in self._given.get(frame, ()) if label.box is not None]
            if not labels or not seen:
                continue
            drawn = np.array([label.box.xyxy for label in labels if label.box is not None])
            table = box_iou(np.array([one.box.xyxy for one in seen]), drawn)
            while table.size and table.max() >= _ANCHORED:
                row, column = np.unravel_index(int(table.argmax()), table.shape)
                label = labels[int(column)]
                anchors[seen[int(row)].id].append((frame, label.key, label.class_name))
                table[row], table[:, column] = 0, 0
        return anchors

    def _named(self, identity: int, frame: int, name: str) -> tuple[str, str]:
        """The key and class of the label nearest in time that it passes through, else its own."""
        known = self._anchors.get(identity)
        if not known:
            return f"a{identity}", name
        _, key, own = min(known, key=lambda anchor: abs(anchor[0] - frame))
        return key, own


def _with_tracks(results: Results, tracks: Tracks) -> Results:
    """The same results with other repaired tracks; those given stay as they are."""
    assert results.repaired is not None
    made = copy(results)
    made.repaired = replace(results.repaired, tracks=tracks)
    made.__dict__.pop("identities", None)  # cached from the tracks before
    return made
