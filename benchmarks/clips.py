"""The real clips that benchmarks measure on, found in ../shared/data beside the checkout. Nothing of them is in the project.

    for clip in box_clips(): clip.source, clip.boxes

A folder that is missing gives no clips; `missing()` says which. Boxes are x, y, w, h in 0-based pixels, NaN where absent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation import readers
from common.evaluation.scenes import mask_box
from common.geometry.types import Mask
from common.video.contract import FrameSource
from common.video.reader import open_source

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

_DAVIS = DATA / "vos" / "DAVIS"
_SYNTH = DATA / "tap" / "synth"


@dataclass(frozen=True, eq=False)
class BoxClip:
    """boxes: float64 (frames, 4)."""

    name: str
    source: FrameSource
    boxes: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MaskClip:
    """Masks are read from disk one at a time. keys: the objects in the clip."""

    name: str
    source: FrameSource
    masks: readers.MaskFolder

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.masks.files)

    def mask(self, key: str, frame: int) -> Mask:
        found = self.masks.mask(key, frame)
        info = self.source.info
        return Mask.from_array(np.zeros((info.height, info.width), bool) if found is None else found)


@dataclass(frozen=True, eq=False)
class PointClip:
    """points: see `PointTable`; only its labelled frames have truth. tolerance: PCK's pixels per frame (BADJA), else None."""

    name: str
    source: FrameSource
    points: readers.PointTable
    tolerance: NDArray[np.float64] | None = None


def missing() -> list[str]:
    """Folders of the shared data that are not on this machine."""
    return [str(f) for f in (DATA / "sot", _DAVIS, DATA / "tap" / "BADJA", _SYNTH) if not f.is_dir()]


def box_clips() -> Iterator[BoxClip]:
    """OTB clips, then the box of every DAVIS mask, then each object of the synthetic clips."""
    for folder in _folders(DATA / "sot"):
        source = open_source(folder / "img")
        table = readers.read_boxes(folder / "groundtruth_rect.txt", one_based=True)
        yield BoxClip(folder.name, source, table.track("1", list(range(source.info.frames))))
    for clip in mask_clips():
        for key in clip.keys:
            boxes = np.full((clip.source.info.frames, 4), np.nan)
            for frame in range(len(boxes)):
                box = mask_box(clip.mask(key, frame).to_array())
                if box is not None:
                    x1, y1, x2, y2 = box.xyxy
                    boxes[frame] = x1, y1, x2 - x1, y2 - y1
            yield BoxClip(f"{clip.name}/{key}" if len(clip.keys) > 1 else clip.name, clip.source, boxes)


def mask_clips() -> Iterator[MaskClip]:
    """DAVIS clips, then the synthetic ones."""
    for folder in _folders(_DAVIS / "JPEGImages" / "480p"):
        masks = readers.read_masks(_DAVIS / "Annotations" / "480p" / folder.name)
        yield MaskClip(folder.name, open_source(folder), masks)
    for folder in _folders(_SYNTH):
        yield MaskClip(f"synth/{folder.name}", open_source(folder / "video.mp4"), readers.read_masks(folder / "masks"))


def point_clips() -> Iterator[PointClip]:
    """BADJA's joints on DAVIS clips, then the synthetic clips with exact points."""
    for path in sorted((DATA / "tap" / "BADJA").glob("*.json")):
        name = path.stem
        if Path(json.loads(path.read_text())["clip"]).name != name:
            raise ValueError(f"{path} belongs to another clip")
        masks = readers.read_masks(_DAVIS / "Annotations" / "480p" / name)
        table = readers.read_points(path)
        areas = [masks.mask(name, frame) for frame in range(table.xy.shape[1])]
        tolerance = np.array([0.2 * np.sqrt(0 if m is None else m.sum()) for m in areas])
        yield PointClip(f"badja/{name}", open_source(_DAVIS / "JPEGImages" / "480p" / name), table, tolerance)
    for folder in _folders(_SYNTH):
        yield PointClip(
            f"synth/{folder.name}", open_source(folder / "video.mp4"), readers.read_points(folder / "points.npz")
        )


def _folders(parent: Path) -> list[Path]:
    return sorted(child for child in parent.iterdir() if child.is_dir()) if parent.is_dir() else []


if __name__ == "__main__":
    for absent in missing():
        print(f"missing: {absent}")
    for boxes in box_clips():
        print(
            f"boxes   {boxes.name:24} {boxes.source.info.frames:4} frames, {np.isfinite(boxes.boxes[:, 0]).sum()} boxes"
        )
    for masks in mask_clips():
        print(f"masks   {masks.name:24} {masks.source.info.frames:4} frames, {len(masks.keys)} objects")
    for points in point_clips():
        print(f"points  {points.name:24} {points.source.info.frames:4} frames, {len(points.points.names)} points")
