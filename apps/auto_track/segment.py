"""The Smart Tool in this process: one picture, a box, clicks; a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from common.geometry.supervisely import to_json
from common.serving.replies import Rejected
from common.serving.smart_tool import Hints, SmartSegmenter
from common.video.contract import Image


def local_mask(
    context: Mapping[str, Any], frame_of: Callable[[int, int], Image], segmenter: SmartSegmenter
) -> dict[str, Any]:
    """The reply of `/smart_segmentation`. Raises `Rejected` for a request that names no video's frame."""
    found = context.get("video")
    try:
        ident, index = int(found["video_id"]), int(found["frame_index"])  # type: ignore[index]
        crop = [(float(p["x"]), float(p["y"])) for p in context.get("crop") or ()]
        clicks = [[(float(p["x"]), float(p["y"])) for p in context.get(n) or ()] for n in ("positive", "negative")]
    except (KeyError, TypeError, ValueError) as error:
        raise Rejected("400: Bad request. Name the picture by video: {video_id, frame_index}.") from error
    nothing: dict[str, Any] = {"origin": None, "bitmap": None, "success": True, "error": None}
    if not any(clicks):
        return nothing
    image = frame_of(ident, index)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = 0, 0, width, height
    if len(crop) == 2:
        xs, ys = sorted(round(x) for x, _ in crop), sorted(round(y) for _, y in crop)
        x1, y1, x2, y2 = max(0, xs[0]), max(0, ys[0]), min(width, xs[1] + 1), min(height, ys[1] + 1)
    if x1 >= x2 or y1 >= y2:
        return nothing
    positive, negative = (np.array(c, np.float32).reshape(-1, 2) for c in clicks)
    mask = segmenter.segment(image, Hints((x1, y1, x2, y2), positive, negative))
    if mask.area == 0:
        return nothing
    bitmap = to_json(mask)["bitmap"]
    x, y = bitmap["origin"]
    return {"origin": {"x": x, "y": y}, "bitmap": bitmap["data"], "success": True, "error": None}
