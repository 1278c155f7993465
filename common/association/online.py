"""The life of tracks, the same for every online associator: predicted, matched, born, confirmed, lost, given up.

What differs - who is matched with whom - is `_match`, which the associators fill in. Nothing here loops over tracks, and
nothing grows with the number of updates: given-up tracks are gone, and identities are a counter of this instance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from common.association import kalman, masks
from common.association.assignment import assign
from common.association.camera.motion import CameraMotion
from common.association.clock import Clock
from common.association.contract import Affine, Float, Given, Int, Tracks
from common.association.overlap import iou, turned
from common.association.seen import Bool, Seen, prepare
from common.association.settings import TICKS_PER_S, Settings
from common.association.table import Table
from common.geometry.detections import Detections
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

Pairs = tuple[Int, Int]
"""Rows of the table and of what is seen, of equal length, each row at most once."""

_HUMAN_DEVIATION = 0.01
_LOOKS_MEMORY = 0.9
_CROWD = 5
"""Objects that must agree before it is the camera that moved."""


class OnlineAssociator(ABC):
    """An `Associator`. Memory: a row per track that is alive."""

    name = ""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._clock = Clock(self._settings.timing)
        self._camera = CameraMotion(self._settings.camera)
        self._updates = 0
        self._next_id = self._settings.first_id
        self._tracks = self._empty()

    @property
    def lookback(self) -> int:
        return self._settings.backfill - 1

    @abstractmethod
    def _match(self, seen: Seen, overlap: Float, free: Bool, ticks: float) -> Pairs:
        """Who is whom. overlap: float64 (tracks, detections), 0..1. free: bool (tracks,), those that may be matched. ticks:
        since the last update."""

    def update(
        self,
        detections: Detections,
        image: Image | None = None,
        *,
        frame: int | None = None,
        time_s: float | None = None,
        camera: Affine | None = None,
        given: Given | None = None,
    ) -> Tracks:
        """See `Associator.update`."""
        ticks = self._clock.advance(frame, time_s)
        self._updates += 1
        tracks = self._tracks
        kalman.predict(tracks.motion, ticks, self._settings.motion)
        tracks.gap += ticks
        if camera is None and image is not None:
            camera = self._camera.estimate(image)
        if camera is not None:
            kalman.warp(tracks.motion, np.asarray(camera, np.float64))
        seen = prepare(detections, self._settings)
        if given is not None and len(given.ids):
            seen = self._follow_people(given, seen)
            tracks = self._tracks
        tracks.room(max(seen.classes.tolist(), default=0) + 1, seen.looks.shape[1], seen.grid.shape[1])
        overlap = self._overlap(seen)
        if camera is None:
            shift = self._common_shift(seen, overlap, ticks)
            if shift is not None:
                tracks.motion.pos[:, :2] += shift
                overlap = self._overlap(seen)
        free = np.ones(len(tracks), bool)
        if np.count_nonzero(tracks.human):
            free = ~(tracks.human & (tracks.gap == 0))
        rows, columns = self._match(seen, overlap, free, ticks)
        order = tracks.ids[rows].argsort()
        rows, columns = rows[order], columns[order]
        self._take(rows, columns, seen)
        out = self._given_out(rows, columns, seen)
        self._give_up()
        left = seen.good.copy()
        left[columns] = False
        born = self._begin(seen, left.nonzero()[0]) if np.count_nonzero(left) else None
        return Tracks.joined([out, born]) if born is not None else out

    def _overlap(self, seen: Seen) -> Float:
        """float64 (tracks, detections). Boxes are slack by what their prediction is less sure than that of an object seen
        in every tick."""
        tracks, s = self._tracks, self._settings
        motion = tracks.motion
        if seen.oriented is not None:
            return turned(motion.pos, tracks.angle, seen.boxes, seen.angle)
        xyxy = motion.xyxy()
        margin: Float | None = None
        if s.slack > 0:
            usual = motion.pos[:, 2:3] * motion.pos[:, 3:4]
            usual *= s.motion.position**2 + s.motion.measurement**2
            margin = motion.pp[:, :2] - usual
            np.maximum(margin, 0, out=margin)
            np.sqrt(margin, out=margin)
            margin *= s.slack
            np.minimum(margin, motion.pos[:, 2:] / 2, out=margin)
        overlap = iou(xyxy, seen.xyxy, margin)
        if seen.grid.shape[1]:
            shaped = np.any(tracks.grid, axis=(1, 2))[:, None] & seen.grid.any((1, 2))
            fine = masks.overlap(xyxy, tracks.grid, seen.xyxy, seen.grid, shaped & (overlap > 0))
            overlap = np.where(shaped, (overlap + fine) / 2, overlap)
        return overlap

    def _common_shift(self, seen: Seen, overlap: Float, ticks: float) -> Float | None:
        """How far nearly everything is from where it was expected, float64 (2,): a camera that nobody measured has moved.
        None unless the shift stands out of what the objects do each on their own."""
        tracks = self._tracks
        if min(len(tracks), len(seen)) < _CROWD:
            return None
        rows = ((tracks.ids > 0) & (tracks.gap <= ticks + 1e-9)).nonzero()[0]
        columns = seen.good.nonzero()[0]
        if min(len(rows), len(columns)) < _CROWD:
            return None
        pos = tracks.motion.pos[rows]
        best, mutual = _mutual(overlap.take(rows, 0).take(columns, 1))
        if np.count_nonzero(mutual) < 0.5 * min(len(rows), len(columns)):  # a jump: look further
            best, mutual = _mutual(iou(tracks.motion.xyxy()[rows], seen.xyxy[columns], 0.25 * pos[:, 2:]))
        if np.count_nonzero(mutual) < _CROWD:
            return None
        off = (seen.boxes[columns[best]] - pos)[mutual, :2]
        shift = _median(off)
        spread = 1.4826 * _median(np.abs(off - shift))
        doubt = 1.2533 * spread / np.sqrt(len(off))  # deviation of a median
        moved = np.where(np.abs(shift) > 3 * doubt, shift, 0.0)
        return moved if np.count_nonzero(moved) else None

    def flush(self) -> Tracks:
        """See `Associator.flush`."""
        tracks = self._tracks
        unsure = np.flatnonzero((tracks.ids == 0) & (tracks.gap == 0) & tracks.ripe)
        out = self._confirm(unsure)
        self._tracks = self._empty()
        return out

    def save(self) -> bytes:
        """See `Associator.save`."""
        return pack(
            {
                "name": self.name,
                "frame": self._clock.frame,
                "time_s": self._clock.time_s,
                "updates": self._updates,
                "next_id": self._next_id,
                "tracks": self._tracks.state(),
                "camera": self._camera.state(),
            }
        )

    def restore(self, state: bytes) -> None:
        """Goes on from a snapshot of an associator with the same settings. Raises ValueError for another's."""
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("name") != self.name:
            raise ValueError(f"not a snapshot of {self.name}")
        self._clock = Clock(self._settings.timing, tree["frame"], tree["time_s"])
        self._updates, self._next_id = tree["updates"], tree["next_id"]
        self._tracks = Table.from_state(tree["tracks"])
        self._camera.restore(tree["camera"])

    # -- one update, step by step -------------------------------------------------------------------------------------

    def _take(self, rows: Int, columns: Int, seen: Seen, deviation: float | None = None) -> None:
        """Tracks `rows` have been seen as `columns`."""
        tracks, model = self._tracks, self._settings.motion
        if not len(rows):
            return
        score = seen.scores[columns]
        # A doubtful detection says less about where the object is (NSA Kalman, Du et al. 2021, arXiv:2107.04757).
        spread = model.measurement * (2 - score) if deviation is None else np.full(len(rows), deviation)
        kalman.correct(tracks.motion, rows, seen.boxes[columns], spread)
        tracks.gap[rows] = 0
        tracks.hits[rows] += 1
        tracks.score[rows] = score
        tracks.ripe[rows] |= seen.births[columns]
        tracks.votes[rows, seen.classes[columns]] += score
        if seen.oriented is not None or deviation is not None:
            tracks.angle[rows] = seen.angle[columns]
        tracks.human[rows] = deviation is not None
        if seen.grid.shape[1]:
            tracks.grid[rows] = seen.grid[columns]
        if seen.looks.shape[1]:
            self._remember_looks(rows, seen.looks[columns], score)

    def _remember_looks(self, rows: Int, looks: NDArray[np.float32], score: Float) -> None:
        """A running mean on the sphere; good detections count more (Maggiolino et al. 2023, Deep OC-SORT)."""
        known = self._tracks.looks[rows]
        high = self._settings.thresholds.high
        trust = np.clip((score - high) / (1 - high + 1e-6), 0, 1)[:, None]
        keep = np.where(np.any(known, axis=1, keepdims=True), 1 - (1 - _LOOKS_MEMORY) * trust, 0.0)
        mixed = np.where(np.any(looks, axis=1, keepdims=True), keep * known + (1 - keep) * looks, known)
        length = np.linalg.norm(mixed, axis=1, keepdims=True)
        self._tracks.looks[rows] = mixed / np.maximum(length, 1e-12)

    def _given_out(self, rows: Int, columns: Int, seen: Seen) -> Tracks:
        """Rows of this frame for sure tracks, and all that waited of those that became sure. rows: by identity."""
        tracks = self._tracks
        assert self._clock.frame is not None
        late = None
        unsure = len(rows) - np.count_nonzero(tracks.ids[rows])
        if unsure:  # they come first
            fresh = rows[:unsure]
            self._wait(fresh, columns[:unsure], seen)
            late = self._confirm(fresh[tracks.ripe[fresh] & (tracks.hits[fresh] >= self._settings.confirm)])
            rows, columns = rows[unsure:], columns[unsure:]
        # The filtered box: half the jitter of the detector's. A turned one is given as found, its hull with it.
        where = kalman.corners(tracks.motion.pos[rows]) if seen.oriented is None else seen.xyxy[columns]
        now = Tracks(
            np.full(len(rows), self._clock.frame, np.int64),
            tracks.ids[rows],
            where.astype(np.float32),
            seen.scores[columns].astype(np.float32),
            tracks.votes[rows].argmax(1),
            seen.rows[columns],
            None if seen.oriented is None else seen.oriented[columns],
        )
        return Tracks.joined([late, now]) if late is not None and len(late) else now

    def _wait(self, rows: Int, columns: Int, seen: Seen) -> None:
        tracks = self._tracks
        if not len(rows):
            return
        full = rows[tracks.waits[rows] == tracks.waiting.shape[1]]
        if len(full):
            tracks.waiting[full] = np.roll(tracks.waiting[full], -1, 1)  # the oldest one is forgotten
            tracks.waiting_boxes[full] = np.roll(tracks.waiting_boxes[full], -1, 1)
            tracks.waits[full] -= 1
        slot = tracks.waits[rows]
        tracks.waits[rows] += 1
        tracks.waiting[rows, slot, 0] = self._clock.frame or 0
        tracks.waiting[rows, slot, 1] = seen.rows[columns]
        tracks.waiting[rows, slot, 2] = seen.classes[columns]
        tracks.waiting_boxes[rows, slot, :4] = seen.xyxy[columns]
        tracks.waiting_boxes[rows, slot, 4] = seen.scores[columns]
        if seen.oriented is not None:
            tracks.waiting_boxes[rows, slot, 5:] = seen.oriented[columns]
            tracks.waiting[rows, slot, 2] |= 1 << 40  # says that the turned box counts

    def _confirm(self, rows: Int) -> Tracks:
        """These become sure: they get their identities, and what waited goes out."""
        tracks = self._tracks
        if not len(rows):
            return Tracks()
        rows = rows[np.lexsort((rows, tracks.born[rows]))]
        tracks.ids[rows] = self._next_id + np.arange(len(rows))
        self._next_id += len(rows)
        which, slot = np.nonzero(np.arange(tracks.waiting.shape[1]) < tracks.waits[rows][:, None])
        waited, boxes = tracks.waiting[rows[which], slot], tracks.waiting_boxes[rows[which], slot]
        turned = bool((waited[:, 2] >> 40).all())
        return Tracks(
            waited[:, 0],
            tracks.ids[rows[which]],
            boxes[:, :4],
            boxes[:, 4],
            tracks.votes[rows[which]].argmax(1),
            waited[:, 1],
            boxes[:, 5:] if turned else None,
        ).ordered()

    def _begin(self, seen: Seen, columns: Int) -> Tracks | None:
        """New tracks from good detections that belong to nobody and double nobody. One that is not good enough for a birth is
        given out, from there on, once a better one follows."""
        tracks = self._tracks
        if len(tracks):
            here = tracks.motion.xyxy()[tracks.gap == 0]
            columns = columns[iou(seen.xyxy[columns], here).max(1, initial=0.0) < self._settings.duplicate]
        if len(columns) > 1:
            columns = self._without_doubles(columns, seen)
        if not len(columns):
            return None
        first = len(self._tracks)
        self._add(seen, columns)
        rows = np.arange(first, first + len(columns))
        self._take_new(rows, columns, seen)
        self._wait(rows, columns, seen)
        return self._confirm(rows[self._tracks.ripe[rows]]) if self._settings.confirm == 1 else None

    def _without_doubles(self, columns: Int, seen: Seen) -> Int:
        """The better one of two births in one place (a detector in two minds about the class)."""
        columns = columns[np.argsort(-seen.scores[columns], kind="stable")]
        close = np.triu(iou(seen.xyxy[columns], seen.xyxy[columns]) >= self._settings.duplicate, 1)
        return columns if not close.any() else columns[~close.any(0)]

    def _add(self, seen: Seen, columns: Int) -> None:
        new = Table.rows(kalman.born(seen.boxes[columns], self._settings.motion), self._settings.backfill)
        new.born[:] = self._updates
        new.room(int(seen.classes[columns].max(initial=0)) + 1, seen.looks.shape[1], seen.grid.shape[1])
        self._tracks = self._tracks.joined(new)

    def _take_new(self, rows: Int, columns: Int, seen: Seen) -> None:
        tracks = self._tracks
        tracks.hits[rows] = 1
        tracks.score[rows] = seen.scores[columns]
        tracks.ripe[rows] = seen.births[columns]
        tracks.votes[rows, seen.classes[columns]] += seen.scores[columns]
        tracks.angle[rows] = seen.angle[columns]
        if seen.grid.shape[1]:
            tracks.grid[rows] = seen.grid[columns]
        if seen.looks.shape[1]:
            tracks.looks[rows] = seen.looks[columns]

    def _give_up(self) -> None:
        """Forgets unsure tracks at their first miss, lost ones after their patience, and the younger of two in one place."""
        tracks = self._tracks
        missed = tracks.gap > 0
        if not np.count_nonzero(missed):
            return
        patience = self._settings.patience_s * TICKS_PER_S
        lost = missed & (tracks.ids > 0)
        lost &= tracks.gap <= patience + 1e-9
        going = missed ^ lost
        if np.count_nonzero(lost):
            here, away = (~missed).nonzero()[0], lost.nonzero()[0]
            xyxy = tracks.motion.xyxy()
            same = iou(xyxy[away], xyxy[here]) > self._settings.duplicate
            if np.count_nonzero(same):
                younger = tracks.born[away][:, None] >= tracks.born[here]
                going[away[(same & younger).any(1)]] = True
                going[here[(same & ~younger).any(0)]] = True
        if np.count_nonzero(going):
            self._tracks = tracks.keep(~going)

    # -- what people labelled ------------------------------------------------------------------------------------------

    def _follow_people(self, given: Given, seen: Seen) -> Seen:
        """Tracks take over what people labelled on this frame; detections of the same objects are dropped."""
        boxes = np.asarray(given.xyxy, np.float64).reshape(-1, 4)
        known = self._people(given, boxes)
        n = len(boxes)
        seen_people = Seen(
            np.full(n, -1, np.int64),
            kalman.centred(boxes),
            boxes,
            np.ones(n),
            np.asarray(given.classes, np.int64),
            np.ones(n, bool),
            np.ones(n, bool),
            np.zeros((n, seen.looks.shape[1]), np.float32),
            np.zeros((n, seen.grid.shape[1], seen.grid.shape[1]), bool),
            np.zeros(n),
            None,
        )
        covers = iou(boxes, seen.xyxy)
        whose, which = assign(1 - covers, 0.5)
        for name in ("looks", "grid", "angle"):  # what the detector saw of the same object
            getattr(seen_people, name)[whose] = getattr(seen, name)[which]
        self._tracks.room(int(seen_people.classes.max()) + 1, seen.looks.shape[1], seen.grid.shape[1])
        new = np.flatnonzero(known < 0)
        if len(new):
            known[new] = len(self._tracks) + np.arange(len(new))
            self._add(seen_people, new)
        tracks = self._tracks
        tracks.ids[known] = given.ids
        tracks.votes[known] = 0
        self._take(known, np.arange(n), seen_people, _HUMAN_DEVIATION)
        tracks.votes[known, seen_people.classes] = 1e9  # a person's word on the class is final
        tracks.hits[known] = np.maximum(tracks.hits[known], self._settings.confirm)
        self._next_id = max(self._next_id, int(given.ids.max()) + 1)
        return seen.keep(np.flatnonzero(covers.max(0, initial=0.0) < 0.5))

    def _people(self, given: Given, boxes: Float) -> Int:
        """The track of each labelled object: the one of its identity, else the one in its place, else -1."""
        tracks = self._tracks
        known = np.full(len(boxes), -1, np.int64)
        for number, identity in enumerate(given.ids.tolist()):
            found = np.flatnonzero(tracks.ids == identity)
            if len(found):
                known[number] = found[0]
        unknown = np.flatnonzero(known < 0)
        spare = np.setdiff1d(np.flatnonzero(~tracks.human), known)
        if len(unknown) and len(spare):
            rows, columns = assign(1 - iou(boxes[unknown], tracks.motion.xyxy()[spare]), 0.5)
            known[unknown[rows]] = spare[columns]
        return known

    def _empty(self) -> Table:
        nothing = kalman.born(np.zeros((0, 4)), self._settings.motion)
        return Table.rows(nothing, self._settings.backfill)


def _median(values: Float) -> Float:
    """Of each column of a table with rows."""
    ranked = np.sort(values, 0)
    found: Float = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
    return found


def _mutual(near: Float) -> tuple[Int, Bool]:
    """The best column of each row, and whether the row is its best one too, and good enough."""
    best = near.argmax(1)
    rows = np.arange(len(near))
    both: Bool = (near.argmax(0)[best] == rows) & (near[rows, best] > 0.3)
    return best, both
