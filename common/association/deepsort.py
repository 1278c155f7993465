"""DeepSORT: looks first, tracks seen last before those lost longer, within the gate of the motion model; then overlap.

Source: Wojke, Bewley and Paulus 2017, "Simple Online and Realtime Tracking with a Deep Association Metric",
arXiv:1703.07402.
"""

from __future__ import annotations

import numpy as np

from common.association import kalman
from common.association.assignment import assign
from common.association.botsort import BotSort
from common.association.contract import Float
from common.association.online import Pairs
from common.association.seen import Bool, Seen

GATE = 9.4877
"""95 % of the chi-square distribution with four degrees of freedom."""

CASCADES = 8
"""Groups of tracks by how long they have been lost. The paper makes one per frame of patience; what matters is the order."""


class DeepSort(BotSort):
    """Needs looks (`Detections.embeddings`); detections without them are matched by overlap alone."""

    name = "deepsort"

    def _match(self, seen: Seen, overlap: Float, free: Bool, ticks: float) -> Pairs:
        tracks, s = self._tracks, self._settings
        nobody = np.zeros(0, np.int64)
        if not len(tracks) or not len(seen):
            return nobody, nobody
        open_rows, open_columns = free.copy(), seen.good.copy()
        found: list[Pairs] = [(nobody, nobody)]

        def round_of(rows: Bool, table: Float, limit: float) -> None:
            i, j = np.flatnonzero(rows & open_rows), np.flatnonzero(open_columns)
            if len(i) and len(j):
                a, b = assign(table[np.ix_(i, j)], limit)
                found.append((i[a], j[b]))
                open_rows[i[a]] = False
                open_columns[j[b]] = False

        sure, another = tracks.ids > 0, self._of_another_class(seen)
        if seen.looks.shape[1]:
            cost = self._gated_looks(seen) + another
            lost = np.ceil(np.maximum(tracks.gap / max(ticks, 1e-9), 1) - 1e-6)
            for age in np.unique(np.minimum(lost[sure], CASCADES)).tolist():
                round_of(sure & (np.minimum(lost, CASCADES) == age), cost, s.alike)
        recent = tracks.gap <= ticks + 1e-9
        overlap_cost = 1 - overlap + another
        known = tracks.looks.any(1) if seen.looks.shape[1] else np.zeros(len(tracks), bool)
        round_of(~sure | recent | ~known, overlap_cost, s.match_new)
        return np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])

    def _gated_looks(self, seen: Seen) -> Float:
        """Half the cosine distance; out of reach where the motion model says so or looks are not known."""
        tracks = self._tracks
        distance = 0.5 * (1 - tracks.looks.astype(np.float64) @ seen.looks.T.astype(np.float64))
        far = kalman.mahalanobis(tracks.motion, seen.boxes, self._settings.motion.measurement) > GATE
        unknown = ~(np.any(tracks.looks, axis=1)[:, None] & seen.looks.any(1))
        return np.where(far | unknown, np.inf, distance)
