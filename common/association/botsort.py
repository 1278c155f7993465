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
        cost = overlap * -seen.scores
        cost += 1 + self._of_another_class(seen)
        sure = tracks.ids > 0
        open_rows, open_columns = free.copy(), np.ones(len(seen), bool)
        found: list[Pairs] = []

        def round_of(rows: Bool, columns: Bool, table: Float, limit: float) -> None:
            i, j = (rows & open_rows).nonzero()[0], (columns & open_columns).nonzero()[0]
            if len(i) and len(j):
                part = table if len(i) == len(tracks) else table.take(i, 0)
                a, b = assign(part if len(j) == len(seen) else part.take(j, 1), limit)
                found.append((i[a], j[b]))
                open_rows[i[a]] = False
                open_columns[j[b]] = False

        first = cost if not seen.looks.shape[1] else np.minimum(cost, self._looks_cost(seen, overlap))
        round_of(sure, seen.good, first, s.match)
        doubtful = ~seen.good
        plain = None
        if np.count_nonzero(doubtful):
            plain = cost + overlap * (seen.scores - 1)
            round_of(sure & (tracks.gap <= ticks + 1e-9), doubtful, plain, s.match_low)
        if np.count_nonzero(sure) < len(sure):
            round_of(~sure, seen.good, cost, s.match_new)
            if plain is not None:
                round_of(~sure, doubtful, plain, s.match_low)
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if len(found) == 1:
            return found[0]
        return np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])

    def _of_another_class(self, seen: Seen) -> Float | float:
        """Extra cost float64 (tracks, detections), 0 with one class: the share of the track's votes that went to others."""
        votes = self._tracks.votes
        if votes.shape[1] == 1:
            return 0.0
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
