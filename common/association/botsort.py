"""BoT-SORT: two rounds, motion and looks, the camera's motion taken out; here for any class, frame rate and geometry.

Source: Aharon, Orfaig and Bobrovsky 2022, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", arXiv:2206.14651; the
second round is ByteTrack's (Zhang et al. 2022, arXiv:2110.06864).
"""

from __future__ import annotations

import numpy as np

from common.association import masks
from common.association.assignment import assign
from common.association.contract import Float
from common.association.online import OnlineAssociator, Pairs
from common.association.overlap import iou, turned
from common.association.seen import Bool, Seen


class BotSort(OnlineAssociator):
    """Tracks that are sure choose first among good detections, then among doubtful ones; unsure ones get what is left."""

    name = "botsort"

    def _match(self, seen: Seen, free: Bool, ticks: float) -> Pairs:
        tracks, s = self._tracks, self._settings
        if not len(tracks) or not len(seen):
            nobody = np.zeros(0, np.int64)
            return nobody, nobody
        overlap = self._overlap(seen)
        cost = 1 - overlap * seen.scores + self._of_another_class(seen)
        sure = tracks.ids > 0
        open_rows, open_columns = free.copy(), np.ones(len(seen), bool)
        found: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]

        def round_of(rows: Bool, columns: Bool, table: Float, limit: float) -> None:
            i, j = np.flatnonzero(rows & open_rows), np.flatnonzero(columns & open_columns)
            if len(i) and len(j):
                a, b = assign(table[np.ix_(i, j)], limit)
                found.append((i[a], j[b]))
                open_rows[i[a]] = False
                open_columns[j[b]] = False

        first = cost if not seen.looks.shape[1] else np.minimum(cost, self._looks_cost(seen, overlap))
        round_of(sure, seen.good, first, s.match)
        just_lost = tracks.gap <= ticks + 1e-9
        doubtful = ~seen.good
        if doubtful.any():
            round_of(sure & just_lost, doubtful, cost + overlap * (seen.scores - 1), s.match_low)
        round_of(~sure, seen.good, cost, s.match_new)
        rows, columns = np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])
        return rows, columns

    def _overlap(self, seen: Seen) -> Float:
        """float64 (tracks, detections). Boxes are slack by what their prediction is less sure than that of an object seen
        in every tick."""
        tracks, s = self._tracks, self._settings
        motion = tracks.motion
        if seen.oriented is not None:
            return turned(motion.pos, tracks.angle, seen.boxes, seen.angle)
        size2 = motion.pos[:, 2:3] * motion.pos[:, 3:4]
        usual = (s.motion.position**2 + s.motion.measurement**2) * size2
        margin = s.slack * np.sqrt(np.maximum(motion.pp[:, :2] - usual, 0))
        np.minimum(margin, motion.pos[:, 2:] / 2, out=margin)
        xyxy = motion.xyxy()
        overlap = iou(xyxy, seen.xyxy, margin)
        if seen.grid.shape[1]:
            shaped = tracks.grid.any((1, 2))[:, None] & seen.grid.any((1, 2))
            fine = masks.overlap(xyxy, tracks.grid, seen.xyxy, seen.grid, shaped & (overlap > 0))
            overlap = np.where(shaped, (overlap + fine) / 2, overlap)
        return overlap

    def _of_another_class(self, seen: Seen) -> Float:
        """Extra cost float64 (tracks, detections): the share of the track's votes that went to other classes."""
        votes = self._tracks.votes
        if votes.shape[1] == 1:
            return np.zeros((len(votes), len(seen)))
        share = votes / np.maximum(votes.sum(1, keepdims=True), 1e-9)
        extra: Float = self._settings.class_cost * (1 - share[:, seen.classes])
        return extra

    def _looks_cost(self, seen: Seen, overlap: Float) -> Float:
        """Half the cosine distance where looks and places are near, else 1 (BoT-SORT, section 3.3)."""
        tracks, s = self._tracks, self._settings
        distance = 0.5 * (1 - tracks.looks.astype(np.float64) @ seen.looks.T.astype(np.float64))
        known = tracks.looks.any(1)[:, None] & seen.looks.any(1)
        far = (overlap < 1 - s.near) | (distance > s.alike) | ~known
        return np.where(far, 1.0, distance)
