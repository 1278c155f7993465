"""Multi-object tracking scores: HOTA, CLEAR and IDF1, computed by TrackEval from arrays, with MOTChallenge's rules.

Sources: Luiten et al., "HOTA", IJCV 2020; Bernardin and Stiefelhagen, "CLEAR MOT", 2008; Ristani et al., "Performance
Measures and a Data Set for Multi-target, Multi-camera Tracking", 2016 (IDF1). What to leave out of the count follows
TrackEval's MotChallenge2DBox, whose numbers these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.evaluation.mot_text import MotRows

Rules = Literal["auto", "plain", "MOT15", "MOT17", "MOT20"]
"""Which true boxes count.

plain: all but those with flag 0; classes are ignored. MOT15: flag as whole number not 0. MOT17, MOT20: only class 1 with
flag not 0; a predicted box that matches a distractor (person on a vehicle, static person, distractor, reflection; in MOT20
also other vehicles) is taken out before anything is counted. auto: MOT17 when the truth looks like it (9 columns, flags 0 and
1, classes 1 to 13 with 1 among them), else plain.
"""

_DISTRACTORS = {"MOT17": (2, 7, 8, 12), "MOT20": (2, 6, 7, 8, 12)}
_EPS = float(np.finfo(float).eps)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MotScores:
    """TrackEval's own fields of each metric family, for one sequence or several combined. Shares are 0..1."""

    hota: Mapping[str, Any]
    clear: Mapping[str, Any]
    identity: Mapping[str, Any]

    def summary(self) -> dict[str, float | int]:
        """The numbers that people quote; HOTA, DetA, AssA, LocA are means over the 19 overlap thresholds."""
        rates = {name: float(np.mean(self.hota[name])) for name in ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "LocA")}
        rates |= {name: float(self.clear[name]) for name in ("MOTA", "MOTP")}
        rates |= {name: float(self.identity[name]) for name in ("IDF1", "IDR", "IDP")}
        counts = {
            "IDSW": "IDSW",
            "Frag": "Frag",
            "FP": "CLR_FP",
            "FN": "CLR_FN",
            "TP": "CLR_TP",
            "MT": "MT",
            "ML": "ML",
        }
        return {**rates, **{name: int(self.clear[field]) for name, field in counts.items()}}


def score(truth: MotRows, result: MotRows, frames: int | None = None, rules: Rules = "auto") -> MotScores:
    """One sequence. frames: its length when known; then rows of later frames are an error, else the last row's frame.

    Classes of the result are not looked at. Raises `UserError` for rows beyond the end, an id below 0, or one that occurs
    twice in a frame.
    """
    last = max(truth.frames, result.frames)
    if frames is not None and last > frames:
        which = "ground truth" if truth.frames > frames else "result"
        raise UserError(f"The {which} has frame {last}, but the sequence ends at frame {frames}.")
    for rows, which in ((truth, "ground truth"), (result, "result")):
        _check_ids(rows, which)
    length = frames if frames is not None else last
    chosen = applicable(truth, rules)
    data = _sequence(truth, result, length, chosen)
    hota, clear, identity = _metrics()
    return MotScores(hota.eval_sequence(data), clear.eval_sequence(data), identity.eval_sequence(data))


def combine(scores: Mapping[str, MotScores]) -> MotScores:
    """Several sequences as one, each counted by its number of boxes, as TrackEval's COMBINED_SEQ. Not empty."""
    hota, clear, identity = _metrics()
    return MotScores(
        hota.combine_sequences({name: s.hota for name, s in scores.items()}),
        clear.combine_sequences({name: s.clear for name, s in scores.items()}),
        identity.combine_sequences({name: s.identity for name, s in scores.items()}),
    )


def applicable(truth: MotRows, rules: Rules) -> Rules:
    """`rules`, or what "auto" stands for with this ground truth."""
    if rules != "auto":
        return rules
    labels = np.unique(truth.label)
    looks_like_17 = (
        truth.columns == 9
        and bool(np.isin(truth.flag, (0, 1)).all())
        and bool(np.isin(labels, np.arange(1, 14)).all())
        and 1 in labels
    )
    return "MOT17" if looks_like_17 else "plain"


def overlaps(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union (n, m) of boxes x, y, w, h (n, 4) and (m, 4); 0 for boxes without area."""
    a_low, b_low = a[:, None, :2], b[None, :, :2]
    a_high, b_high = a_low + a[:, None, 2:], b_low + b[None, :, 2:]
    shared = np.clip(np.minimum(a_high, b_high) - np.maximum(a_low, b_low), 0, None).prod(2)
    # Sizes from the corners, not from w and h: the rounding is then TrackEval's own.
    union = (a_high - a_low).prod(2) + (b_high - b_low).prod(2) - shared
    found: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > _EPS)
    return found


def _metrics() -> tuple[Any, Any, Any]:
    from trackeval.metrics import CLEAR, HOTA, Identity  # slow to load

    quiet = {"PRINT_CONFIG": False}
    return HOTA(), CLEAR(dict(quiet)), Identity(dict(quiet))


def _check_ids(rows: MotRows, which: str) -> None:
    if (rows.id < 0).any():
        raise UserError(f"The {which} has id {int(rows.id.min())}: identities are 0 or more (these may be detections).")
    pairs, counts = np.unique(np.stack([rows.frame, rows.id], 1), axis=0, return_counts=True)
    if (counts > 1).any():
        frame, identity = pairs[np.argmax(counts > 1)]
        raise UserError(f"The {which} has id {identity} more than once in frame {frame}.")


def _sequence(truth: MotRows, result: MotRows, length: int, rules: Rules) -> dict[str, Any]:
    """TrackEval's input: per frame the ids, renumbered from 0, and the overlaps, after MOTChallenge's preprocessing."""
    truth_at, result_at = _by_frame(truth, length), _by_frame(result, length)
    kept_truth, kept_result, similarity = [], [], []
    counted = _counted(truth, rules)
    for a, b in zip(truth_at, result_at, strict=True):
        table = overlaps(truth.xywh[a], result.xywh[b])
        if rules in _DISTRACTORS:
            spared = ~_matched_to_distractor(table, truth.label[a], _DISTRACTORS[rules])
            b, table = b[spared], table[:, spared]
        keep = counted[a]
        kept_truth.append(a[keep])
        kept_result.append(b)
        similarity.append(table[keep])
    truth_ids, truth_count = _renumbered(truth.id, kept_truth)
    result_ids, result_count = _renumbered(result.id, kept_result)
    return {
        "num_timesteps": length,
        "num_gt_ids": truth_count,
        "num_tracker_ids": result_count,
        "num_gt_dets": sum(map(len, kept_truth)),
        "num_tracker_dets": sum(map(len, kept_result)),
        "gt_ids": truth_ids,
        "tracker_ids": result_ids,
        "similarity_scores": similarity,
    }


def _counted(truth: MotRows, rules: Rules) -> NDArray[np.bool_]:
    if rules == "plain":
        unflagged: NDArray[np.bool_] = truth.flag != 0
        return unflagged
    counted: NDArray[np.bool_] = truth.flag.astype(np.int64) != 0
    if rules in _DISTRACTORS:
        counted &= truth.label == 1
    return counted


def _matched_to_distractor(table: FloatArray, labels: IntArray, distractors: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which predicted boxes (columns) the best assignment at overlap 0.5 gives to a distractor (row)."""
    from scipy.optimize import linear_sum_assignment  # slow to load

    good = np.where(table < 0.5 - _EPS, 0.0, table)
    rows, columns = linear_sum_assignment(-good)
    matched = good[rows, columns] > _EPS
    hit = np.zeros(table.shape[1], bool)
    hit[columns[matched & np.isin(labels[rows], distractors)]] = True
    return hit


def _by_frame(rows: MotRows, length: int) -> list[IntArray]:
    """Row numbers of every frame 1..length, in file order."""
    order = np.argsort(rows.frame, kind="stable")
    return np.split(order, np.searchsorted(rows.frame[order], np.arange(2, length + 1)))[:length] if length else []


def _renumbered(ids: IntArray, kept: list[IntArray]) -> tuple[list[IntArray], int]:
    used = np.unique(ids[np.concatenate(kept)]) if kept else np.zeros(0, np.int64)
    return [np.searchsorted(used, ids[rows]) for rows in kept], len(used)
