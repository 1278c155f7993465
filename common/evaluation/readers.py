"""Files of truth and results -> the arrays that the metrics take. Every malformed file is a `UserError` of one line."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from common.errors import UserError
from common.evaluation import mot_text

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]


# -- boxes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BoxTable:
    """Boxes x, y, w, h by object and frame. boxes: object -> {frame (0-based) -> float64 (4,)}; named: whether the file
    names its objects (MOT text) or holds just one (OTB rectangles, object "1").
    """

    boxes: Mapping[str, Mapping[int, Array]]
    named: bool

    def track(self, key: str, frames: list[int]) -> Array:
        """Boxes of one object at these frames, float64 (n, 4), NaN where there is none."""
        nothing = np.full(4, np.nan)
        rows = [self.boxes[key].get(frame, nothing) for frame in frames]
        return np.array(rows).reshape(len(frames), 4)


def read_boxes(path: Path, one_based: bool = True, start: int = 0) -> BoxTable:
    """MOT text (6 columns or more) or OTB rectangles (4: x, y, w, h, one line per frame).

    one_based: OTB pixels count from 1, so x and y are lowered by one; MOT text is taken as it is. start: frame of the
    first rectangle, 0-based. A rectangle that is NaN or has no area means: absent.
    """
    lines = [line for line in mot_text.read_lines(path) if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty.")
    if len(_split(lines[0])) == 4:
        boxes: dict[int, Array] = {}
        for number, line in enumerate(lines):
            cells = _split(line)
            try:
                x, y, w, h = (float(cell) for cell in cells)
            except ValueError:
                raise UserError(f"{path}, line {number + 1}: expected x,y,width,height, got {line[:80]!r}.") from None
            if np.isfinite([x, y, w, h]).all() and w > 0 and h > 0:
                boxes[start + number] = np.array([x - one_based, y - one_based, w, h])
        return BoxTable({"1": boxes}, named=False)
    rows = mot_text.read(path)
    found: dict[str, dict[int, Array]] = {}
    for frame, identity, xywh in zip(rows.frame.tolist(), rows.id.tolist(), rows.xywh, strict=True):
        track = found.setdefault(str(identity), {})
        if frame - 1 in track:
            raise UserError(f"{path}: object {identity} has more than one box in frame {frame}.")
        track[frame - 1] = xywh
    return BoxTable(found, named=True)


def _split(line: str) -> list[str]:
    return [cell for cell in re.split(r"[,;\s]+", line.strip()) if cell]


# -- masks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskFolder:
    """Masks on disk, read one picture at a time. files: object -> {frame -> file}. labels: object -> pixel value when
    several objects share a picture; an object that is not in it owns every bright pixel.
    """

    files: Mapping[str, Mapping[int, Path]]
    labels: Mapping[str, int]

    def mask(self, key: str, frame: int) -> Bool | None:
        """Bool (H, W), or None when there is no file for that frame."""
        path = self.files[key].get(frame)
        if path is None:
            return None
        pixels, _ = read_mask_picture(path)
        found: Bool = pixels == self.labels[key] if key in self.labels else pixels > 127
        return found


def read_masks(folder: Path) -> MaskFolder:
    """A folder of PNG files named by frame number, or of one such folder per object, or one that holds `masks/`.

    A palette picture, or a grey one with no value above 127, numbers its objects by pixel value; any other is one mask.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of mask pictures.")
    if (folder / "masks").is_dir():
        folder = folder / "masks"
    here = _frames_of(folder)
    if here:
        labels = _labels_of(here)
        if labels:
            return MaskFolder({str(v): here for v in labels}, {str(v): v for v in labels})
        return MaskFolder({folder.name: here}, {})
    objects = {child.name: _frames_of(child) for child in sorted(folder.iterdir(), key=_natural) if child.is_dir()}
    objects = {name: files for name, files in objects.items() if files}
    if not objects:
        raise UserError(f"{folder} holds no PNG files named by frame number, nor folders of them.")
    labels_of = {name: _labels_of(files) for name, files in objects.items()}
    # One object per folder: whatever its value is, it is the object.
    return MaskFolder(objects, {name: values[0] for name, values in labels_of.items() if values})


def read_mask_picture(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Pixel values (H, W) and whether they number objects through a palette."""
    try:
        with Picture.open(path) as picture:
            if picture.mode not in ("P", "L", "1", "I", "I;16", "LA", "RGB", "RGBA"):
                raise UserError(f"{path}: cannot use a {picture.mode} picture as a mask.")
            if picture.mode == "P":
                return np.asarray(picture, np.uint8), True
            return np.asarray(picture.convert("L"), np.uint8), False
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}.") from None


def _frames_of(folder: Path) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for path in folder.iterdir():
        if path.suffix.lower() != ".png":
            continue
        if not path.stem.isdecimal():
            raise UserError(f"{path} should be named by its frame number, such as 00012.png.")
        files[int(path.stem)] = path
    return dict(sorted(files.items()))


def _labels_of(files: Mapping[int, Path]) -> list[int]:
    """Object numbers in these pictures; empty when they hold one bright mask each (or nothing)."""
    values: set[int] = set()
    palette = False
    for path in files.values():
        pixels, indexed = read_mask_picture(path)
        palette |= indexed
        values |= set(np.flatnonzero(np.bincount(pixels.ravel(), minlength=1)).tolist())
    values.discard(0)
    if palette:
        values.discard(255)  # DAVIS marks pixels that do not count so
    elif max(values, default=255) > 127:
        return []
    return sorted(values)


def _natural(path: Path) -> tuple[tuple[int, int | str], ...]:
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part)


# -- points -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points by frame. names: (object, point) per row. xy: float64 (n, t, 2), NaN = none. visible: bool (n, t).
    query_frame: int64 (n,), the first visible frame when the file does not say. labelled: bool (t,), frames with truth.
    size: (width, height) when the file says so.
    """

    names: tuple[tuple[str, str], ...]
    xy: Array
    visible: Bool
    query_frame: NDArray[np.int64]
    labelled: Bool
    size: tuple[int, int] | None = None


def read_points(path: Path) -> PointTable:
    """points.csv (object,point,frame,x,y,visible,...), points.npz (tracks, visible, query_frame) or BADJA's JSON."""
    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    readers = {".csv": _points_csv, ".npz": _points_npz, ".json": _points_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: points are read from .csv, .npz or .json files.")
    return reader(path)


def _points_csv(path: Path) -> PointTable:
    rows = list(csv.reader(mot_text.read_lines(path)))
    wanted = ["object", "point", "frame", "x", "y", "visible"]
    if not rows or [cell.strip() for cell in rows[0][:6]] != wanted:
        raise UserError(f"{path}, line 1: expected the header {','.join(wanted)},score.")
    found: dict[tuple[str, str], dict[int, tuple[float, float, bool]]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            name, point, frame = row[0], row[1], int(row[2])
            x, y = (float(cell) if cell.strip() else float("nan") for cell in row[3:5])
            visible = {"1": True, "0": False, "true": True, "false": False}[row[5].strip().lower()]
        except (ValueError, IndexError, KeyError):
            raise UserError(f"{path}, line {number}: not a point: {','.join(row)[:80]!r}.") from None
        if frame < 0:
            raise UserError(f"{path}, line {number}: frames count from 0.")
        track = found.setdefault((name, point), {})
        if frame in track:
            raise UserError(f"{path}, line {number}: point {point} of {name} occurs twice in frame {frame}.")
        track[frame] = (x, y, visible)
    length = 1 + max((frame for track in found.values() for frame in track), default=-1)
    if length > 10_000_000 // max(len(found), 1):
        raise UserError(f"{path}: frame {length - 1} is too far for {len(found)} points.")
    xy, visible_at = np.full((len(found), length, 2), np.nan), np.zeros((len(found), length), bool)
    for row_number, track in enumerate(found.values()):
        for frame, (x, y, seen) in track.items():
            xy[row_number, frame], visible_at[row_number, frame] = (x, y), seen
    labelled = np.isfinite(xy[..., 0]).any(0) | visible_at.any(0)
    return PointTable(tuple(found), xy, visible_at, _first_seen(visible_at), labelled)


def _points_npz(path: Path) -> PointTable:
    try:
        with np.load(path, allow_pickle=False) as archive:
            entries = {name: archive[name] for name in ("tracks", "visible", "query_frame") if name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise UserError(f"{path} is not a whole .npz file: {error}.") from None
    if not {"tracks", "visible"} <= set(entries):
        raise UserError(f"{path}: expected arrays named tracks and visible.")
    try:
        xy, visible = entries["tracks"].astype(np.float64), entries["visible"].astype(bool)
        query = entries["query_frame"].astype(np.int64) if "query_frame" in entries else _first_seen(visible)
    except (ValueError, TypeError):
        raise UserError(f"{path}: tracks are numbers and visible are flags.") from None
    if xy.ndim != 3 or xy.shape[2] != 2 or visible.shape != xy.shape[:2] or query.shape != xy.shape[:1]:
        raise UserError(
            f"{path}: tracks are [points, frames, 2] and visible [points, frames], got {xy.shape}, {visible.shape}."
        )
    names = tuple((str(number), "0") for number in range(len(xy)))
    return PointTable(names, xy, visible, query, np.ones(xy.shape[1], bool), _size_beside(path))


def _points_json(path: Path) -> PointTable:
    try:
        document = json.loads("\n".join(mot_text.read_lines(path)))
        frames = np.array(document["frames"], np.int64)
        labelled_xy = np.array(document["xy"], np.float64)
        labelled_visible = np.array(document["visible"], bool)
        size = (int(document["width"]), int(document["height"])) if "width" in document else None
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        raise UserError(f"{path}: expected frames [k], xy [k][joints][2] and visible [k][joints].") from None
    shape = labelled_xy.shape
    if len(shape) != 3 or shape[2] != 2 or labelled_visible.shape != shape[:2] or frames.shape != shape[:1]:
        raise UserError(f"{path}: frames, xy and visible do not fit together: {frames.shape}, {shape}.")
    if len(frames) == 0 or frames.min() < 0 or frames.max() > 1_000_000:
        raise UserError(f"{path}: no usable frame numbers.")
    length = int(frames.max()) + 1
    xy, visible = np.full((shape[1], length, 2), np.nan), np.zeros((shape[1], length), bool)
    xy[:, frames], visible[:, frames] = labelled_xy.swapaxes(0, 1), labelled_visible.T
    labelled = np.isin(np.arange(length), frames)
    names = tuple((str(number), "0") for number in range(shape[1]))
    return PointTable(names, xy, visible, _first_seen(visible), labelled, size)


def _first_seen(visible: Bool) -> NDArray[np.int64]:
    """First visible frame of every point; beyond the end for one that is never seen, so that it never counts."""
    if visible.shape[1] == 0:
        return np.zeros(len(visible), np.int64)
    first: NDArray[np.int64] = np.where(visible.any(1), visible.argmax(1), visible.shape[1]).astype(np.int64)
    return first


def _size_beside(path: Path) -> tuple[int, int] | None:
    """Width and height from the info.json of a synthetic clip's folder, if there is a sound one."""
    info = path.with_name("info.json")
    if not info.is_file():
        return None
    try:
        document = json.loads("\n".join(mot_text.read_lines(info)))
        return int(document["width"]), int(document["height"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        raise UserError(f"{info}: expected width and height; remove it or pass --size.") from None
