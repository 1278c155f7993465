"""From the numbers of a network to `Detections`: pure functions over arrays, shared by every adapter.

Sources: ultralytics' heads (https://docs.ultralytics.com), YOLACT's prototype masks (Bolya et al. 2019), DETR (Carion et
al. 2020) with the focal-loss scores of Deformable DETR (Zhu et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections
from common.detection.inputs import Fit
from common.detection.selection import suppress
from common.geometry.measures import oriented_corners
from common.geometry.types import Mask

Float = NDArray[np.float32]
Task = Literal["detect", "segment", "pose", "obb"]

MOST_CANDIDATES = 2000
"""So many of the surest go into suppression, whose cost grows with their square."""


@dataclass(frozen=True, eq=False)
class Raw:
    """What a network says about one picture, in pixels of its input, one row each.

    xyxy: float32 (n, 4). oriented: float32 (n, 5) or None. keypoints: float32 (n, k, 3) or None. coefficients: float32
    (n, c) of the prototypes, or None. single: every thing has one row already.
    """

    xyxy: Float
    scores: Float
    classes: NDArray[np.int64]
    oriented: Float | None = None
    keypoints: Float | None = None
    coefficients: Float | None = None
    single: bool = False

    def keep(self, index: NDArray[np.int64]) -> Raw:
        columns = {name: getattr(self, name) for name in ("oriented", "keypoints", "coefficients")}
        kept = {name: None if column is None else column[index] for name, column in columns.items()}
        return Raw(self.xyxy[index], self.scores[index], self.classes[index], **kept, single=self.single)


def sigmoid(x: NDArray[np.floating]) -> Float:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64))), np.float32)


def corners(cxcywh: NDArray[np.floating]) -> Float:
    """Centre and size (n, 4) as corners."""
    half = cxcywh[:, 2:4] / 2
    return np.concatenate((cxcywh[:, :2] - half, cxcywh[:, :2] + half), 1).astype(np.float32)


def best_class(scores: NDArray[np.floating]) -> tuple[Float, NDArray[np.int64]]:
    """Each row's best score and its class, of scores (n, classes)."""
    classes = scores.argmax(1) if scores.size else np.zeros(len(scores), np.int64)
    return scores[np.arange(len(scores)), classes].astype(np.float32), classes.astype(np.int64)


def yolo_rows(rows: Float, classes: int, task: Task, floor: float) -> Raw:
    """Rows (n, 4 + classes + extra) of one picture: centre and size, class scores 0..1, and mask coefficients, keypoints
    (x, y, score each) or a turn."""
    scores, labels = best_class(rows[:, 4 : 4 + classes])
    chosen = np.flatnonzero(scores >= floor)
    return _with_extra(rows[chosen, :4], scores[chosen], labels[chosen], rows[chosen, 4 + classes :], task, True)


def final_rows(rows: Float, task: Task, floor: float) -> Raw:
    """Rows (n, 6 + extra) of one picture that need no suppression: corners (centre and size where boxes are turned),
    score, class, extra as in `yolo_rows`."""
    chosen = np.flatnonzero(rows[:, 4] >= floor)
    rows = rows[chosen]
    labels = np.maximum(rows[:, 5].round(), 0).astype(np.int64)
    return replace(_with_extra(rows[:, :4], rows[:, 4], labels, rows[:, 6:], task, task == "obb"), single=True)


def _with_extra(boxes: Float, scores: Float, labels: NDArray[np.int64], extra: Float, task: Task, centred: bool) -> Raw:
    xyxy = corners(boxes) if centred else boxes.astype(np.float32)
    scores = np.clip(scores, 0, 1).astype(np.float32)
    if task == "obb":
        oriented = np.concatenate((boxes, extra[:, :1]), 1).astype(np.float32)
        return Raw(hulls(oriented), scores, labels, oriented=oriented)
    if task == "pose":
        return Raw(xyxy, scores, labels, keypoints=_keypoints(extra))
    if task == "segment":
        return Raw(xyxy, scores, labels, coefficients=extra.astype(np.float32))
    return Raw(xyxy, scores, labels)


def _keypoints(flat: Float) -> Float:
    """Rows of x, y, score, x, y, score, ...; scores 0..1."""
    points = flat[:, : flat.shape[1] // 3 * 3].reshape(len(flat), -1, 3).astype(np.float32)
    points[..., 2] = np.clip(points[..., 2], 0, 1)
    return points


def detr_rows(boxes: Float, logits: Float, width: int, height: int, floor: float, most: int = 300) -> Raw:
    """Queries' boxes (n, 4) as centre and size in 0..1 and class logits (n, classes); a query may stand for several
    classes, and the `most` best pairs of query and class are looked at."""
    scores = sigmoid(logits)
    flat = scores.ravel()
    count = min(most, flat.size)
    best = np.argpartition(-flat, count - 1)[:count] if count else np.zeros(0, np.int64)
    best = best[np.argsort(-flat[best], kind="stable")]
    best = best[flat[best] >= floor]
    query, label = np.divmod(best, max(1, scores.shape[1]))
    scaled = corners(boxes[query] * np.array([width, height, width, height], np.float32))
    return Raw(scaled, flat[best].astype(np.float32), label.astype(np.int64), single=True)


def hulls(oriented: Float) -> Float:
    """Upright boxes (n, 4) around rotated ones (n, 5)."""
    points = oriented_corners(oriented)
    return np.concatenate((points.min(1), points.max(1)), 1).astype(np.float32)


def finish(
    raw: Raw,
    fit: Fit,
    floor: float,
    *,
    overlap: float = 0.7,
    prototypes: Float | None = None,
    size: tuple[int, int] = (0, 0),
    most: int = 300,
) -> Detections:
    """The detections in the picture's pixels, surest first, one for each thing.

    overlap: IoU within a class above which the less sure of two rows goes. prototypes: float32 (c, h, w) of the masks;
    size: the input's (width, height). Rows that are not finite, score less than `floor` or lie outside the picture are
    left out.
    """
    finite = np.isfinite(raw.xyxy).all(1) & np.isfinite(raw.scores) & (raw.scores >= floor)
    for column in (raw.oriented, raw.keypoints, raw.coefficients):
        if column is not None:
            finite &= np.isfinite(column.reshape(len(column), -1)).all(1)
    order = np.flatnonzero(finite)
    order = order[np.argsort(-raw.scores[order], kind="stable")][: most if raw.single else MOST_CANDIDATES]
    raw = raw.keep(order)
    if not raw.single:
        boxes = raw.xyxy if raw.oriented is None else raw.oriented
        raw = raw.keep(suppress(boxes, raw.scores, raw.classes, overlap, most))
    xyxy = fit.boxes(raw.xyxy)
    seen = np.flatnonzero((xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]))
    raw, xyxy = raw.keep(seen), xyxy[seen]
    oriented = keypoints = masks = None
    if raw.oriented is not None:
        oriented = raw.oriented.copy()
        oriented[:, :2] = fit.points(oriented[:, :2])
        oriented[:, 2:4] /= np.array([fit.sx, fit.sy], np.float32)
    if raw.keypoints is not None:
        keypoints = raw.keypoints.copy()
        keypoints[..., :2] = fit.points(keypoints[..., :2])
    if raw.coefficients is not None and prototypes is not None:
        masks = tuple(prototype_masks(raw.coefficients, prototypes, xyxy, fit, size))
    scores = np.clip(raw.scores, 0, 1)
    return Detections(xyxy, scores, raw.classes, masks, oriented=oriented, keypoints=keypoints)


def prototype_masks(coefficients: Float, prototypes: Float, xyxy: Float, fit: Fit, size: tuple[int, int]) -> list[Mask]:
    """Masks of boxes as sums of prototypes, cut at the box. xyxy: float32 (n, 4) in the picture's pixels."""
    count, rows, columns = prototypes.shape
    flat = prototypes.reshape(count, -1)
    out = []
    for weights, box in zip(coefficients, xyxy, strict=True):
        logits = (weights @ flat).reshape(rows, columns)
        out.append(logit_mask(logits, box, fit, size))
    return out


def logit_mask(logits: Float, box: Float, fit: Fit, size: tuple[int, int]) -> Mask:
    """Where logits (h, w) over a network's input of `size` (width, height) are positive, within a box of the picture."""
    rows, columns = logits.shape
    x1, y1 = int(np.floor(box[0])), int(np.floor(box[1]))
    x2, y2 = min(fit.width, int(np.ceil(box[2]))), min(fit.height, int(np.ceil(box[3])))
    if x2 <= x1 or y2 <= y1:
        return Mask.from_array(np.zeros((fit.height, fit.width), bool))
    # pixel centres of the picture's crop -> of the logits
    ax, ay = fit.sx * columns / size[0], fit.sy * rows / size[1]
    bx = ((x1 + 0.5) * fit.sx + fit.dx) * columns / size[0] - 0.5
    by = ((y1 + 0.5) * fit.sy + fit.dy) * rows / size[1] - 0.5
    crop = cv2.warpAffine(
        np.ascontiguousarray(logits, np.float32),
        np.array([[ax, 0, bx], [0, ay, by]], np.float64),
        (x2 - x1, y2 - y1),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    local = Mask.from_array(crop > 0)
    x, y = (x1 + local.x, y1 + local.y) if local.runs.size else (0, 0)
    return replace(local, height=fit.height, width=fit.width, x=x, y=y)
