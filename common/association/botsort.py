"""BoT-SORT: two rounds, motion and looks, the camera's motion taken out; here for any class, frame rate and geometry.

Source: Aharon, Orfaig and Bobrovsky 2022, "BoT-SORT: Robust Associations Multi-Pedestrian Tracking", arXiv:2206.14651; the
second round is ByteTrack's (Zhang et al. 2022, arXiv:2110.06864).
"""

from __future__ import annotations

import numpy as np

from common.association.assignment import assign
from common.association.contract import Float
from common.association.online import OnlineAssociator, Pairs
from common.association.seen import Bool, Seen


class BotSort(OnlineAssociator):
    """Tracks that are sure choose first among good detections, then among doubtful ones; unsure ones get what is left."""

    name = "botsort"

    def _match(self, seen: Seen, overlap: Float, free: Bool, ticks: float) -> Pairs:
        tracks, s = self._tracks, self._settings
        if not len(tracks) or not len(seen):
            nobody = np.zeros(0, np.int64)
            return nobody, nobody
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
        plain = cost + overlap * (seen.scores - 1)
        if doubtful.any():
            round_of(sure & just_lost, doubtful, plain, s.match_low)
        round_of(~sure, seen.good, cost, s.match_new)
        if doubtful.any():
            round_of(~sure, doubtful, plain, s.match_low)
        rows, columns = np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])
        return rows, columns

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
        known = np.any(tracks.looks, axis=1)[:, None] & seen.looks.any(1)
        far = (overlap < 1 - s.near) | (distance > s.alike) | ~known
        return np.where(far, 1.0, distance)
