"""The result files of a job, streamed from its journal: memory does not grow with the number of frames.

annotation.json + meta.json (Supervisely), tracks.txt (MOT), masks/, points.csv, overlay.mp4, summary.json. Every file is
written beside its place and moved there when whole.
"""

from __future__ import annotations

import csv
import json
import re
import resource
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from apps.cli.overlay import Overlay
from apps.cli.progress import Reporter
from apps.cli.prompts import Label, Prompts
from common.errors import FrameUnreadable
from common.geometry.annotation import AnnotationWriter, Figure
from common.geometry.measures import bounds
from common.geometry.types import Box, Mask, OrientedBox, Points
from common.tracking.journal import Journal, Result
from common.tracking.review import ReviewQueue, ReviewSettings, Suggestion
from common.video.contract import FrameSource
from common.video.numbered import numbered
from common.video.writer import VideoWriter

FILES = ("annotation.json", "meta.json", "tracks.txt", "points.csv", "summary.json", "overlay.mp4")
MASKS = "masks"
"""What is written to the output folder: these files, and this folder."""

REVIEW_LIMIT = 20
"""Frames suggested for review at most."""


def write_results(
    journal: Journal,
    source: FrameSource,
    prompts: Prompts,
    out: Path,
    reporter: Reporter,
    *,
    overlay: bool,
    complete: bool,
    damage: str | None,
    stop: threading.Event,
) -> None:
    """Write everything that the journal holds. overlay: render overlay.mp4, given up when `stop` is set. complete, damage:
    for the summary, whether all was tracked and which frames could not be read.
    """
    how = {"complete": complete, "damage": damage}
    first_last = _write_tables(journal, source, prompts, out, how)
    (out / "overlay.mp4").unlink(missing_ok=True)  # of an earlier job: it would not show these results
    if overlay and first_last is not None:
        _write_overlay(journal, source, prompts.labels, out, reporter, first_last, stop)


def _write_tables(
    journal: Journal, source: FrameSource, prompts: Prompts, out: Path, how: Mapping[str, Any]
) -> tuple[int, int] | None:
    labels, info = prompts.labels, source.info
    classes = {
        name: number for number, name in enumerate(dict.fromkeys(label.class_name for label in labels.values()), 1)
    }
    numbers = {key: number for number, key in enumerate(labels, 1)}
    masks = _MaskFolder(out / MASKS)
    with (
        _replacing(out / "tracks.txt") as tracks,
        _replacing(out / "points.csv") as points,
        _Summary(out / "summary.json", journal, source, labels, how) as summary,
        AnnotationWriter(out / "annotation.json", info.width, info.height, prompts.meta, name=info.name) as annotation,
    ):
        table = csv.writer(points, lineterminator="\n")
        table.writerow(["object", "point", "frame", "x", "y", "visible", "score"])
        for label in labels.values():
            annotation.add_object(label.annotated.key, label.class_name, label.annotated.tags)
        for results in journal.results():
            annotation.write(results[0].frame, _figures(results, labels))
            summary.add(results)
            for result in results:
                key, geometry = result.prediction.key, result.prediction.geometry
                box = bounds(geometry) if geometry is not None else None
                if geometry is None or box is None:
                    continue
                tracks.write(_mot_line(result, numbers[key], box.xyxy, classes[labels[key].class_name]))
                if isinstance(geometry, Mask):
                    masks.write(key, result.frame, geometry)
                if isinstance(geometry, Points):
                    table.writerows(_point_rows(result, geometry))
    prompts.meta.write(out / "meta.json")
    if all(isinstance(label.value, Box | OrientedBox | Mask) for label in labels.values()):
        (out / "points.csv").unlink()
    return summary.first_last


def _figures(results: list[Result], labels: Mapping[str, Label]) -> Iterator[Figure]:
    """What is drawn in a frame: everything that can be seen. Hidden and lost objects have no figure."""
    for result in results:
        geometry, label = result.prediction.geometry, labels[result.prediction.key]
        if geometry is None or not result.prediction.visible:
            continue
        score = None if result.labelled else result.prediction.score
        yield Figure(label.annotated.key, label.drawn(geometry), predicted=not result.labelled, score=score)


def _mot_line(result: Result, number: int, xyxy: np.ndarray, class_number: int) -> str:
    x1, y1, x2, y2 = (float(v) for v in xyxy)
    p = result.prediction
    return (
        f"{result.frame + 1},{number},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
        f"{p.score:.4f},{class_number},{int(p.visible)}\n"
    )


def _point_rows(result: Result, points: Points) -> Iterator[list[Any]]:
    p = result.prediction
    for number, ((x, y), visible) in enumerate(zip(points.xy, points.visible, strict=True)):
        shown = int(visible and p.visible)
        yield [p.key, number, result.frame, f"{float(x):.3f}", f"{float(y):.3f}", shown, f"{p.score:.4f}"]


class _MaskFolder:
    """masks/<object>/<frame>.png, 8-bit, 0 and 255. Pictures of an earlier job in the same folder are removed first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for old in folder.glob("*/*.png") if folder.is_dir() else ():
            if re.fullmatch(r"\d+", old.parent.name) and re.fullmatch(r"\d{5,}", old.stem):
                old.unlink()
        for place in (*folder.glob("*/"), folder):
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()

    def write(self, key: str, frame: int, mask: Mask) -> None:
        folder = self._folder / key
        folder.mkdir(parents=True, exist_ok=True)
        picture = mask.to_array().astype(np.uint8) * 255
        encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (folder / f"{frame:05d}.png").write_bytes(encoded.tobytes())


class _Summary:
    """summary.json: how it went, how sure each frame is, and which frames to look at first."""

    def __init__(
        self, path: Path, journal: Journal, source: FrameSource, labels: Mapping[str, Label], how: Mapping[str, Any]
    ) -> None:
        self._path = path
        self._journal = journal
        self._info = source.info
        self._labels = labels
        self._how = how
        self._review = ReviewQueue(ReviewSettings(limit=REVIEW_LIMIT), (source.info.width, source.info.height))
        self._seen = {key: {"frames": 0, "lost": 0} for key in labels}
        self._frames = 0
        self.first_last: tuple[int, int] | None = None

    def __enter__(self) -> _Summary:
        self._context = _replacing(self._path)
        self._file = self._context.__enter__()
        self._file.write('{\n "confidence": {')
        return self

    def add(self, results: list[Result]) -> None:
        frame = results[0].frame
        worst = min(result.prediction.score for result in results)
        self._file.write(f'{"," if self._frames else ""}"{frame}": {worst:.4f}')
        self._frames += 1
        self.first_last = (self.first_last[0] if self.first_last else frame, frame)
        for result in results:
            seen = self._seen[result.prediction.key]
            seen["frames" if result.prediction.geometry is not None and result.prediction.visible else "lost"] += 1
        self._review.add(frame, [result.prediction for result in results])

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._finish()
        self._context.__exit__(*error)

    def _finish(self) -> None:
        seconds = self._journal.seconds
        rest = {
            "video": self._info.name,
            **self._how,
            "frames": self._frames,
            "seconds": round(seconds, 3),
            "frames_per_second": round(self._frames / seconds, 2) if seconds else None,
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "objects": [
                {"object": key, "name": label.name, "class": label.class_name, **self._seen[key]}
                for key, label in self._labels.items()
            ],
            "review": [self._suggestion(suggestion) for suggestion in self._review.suggestions()],
        }
        self._file.write("},\n" + json.dumps(rest, indent=1)[2:] + "\n")

    def _suggestion(self, suggestion: Suggestion) -> dict[str, Any]:
        named = replace(
            suggestion, findings=tuple(replace(f, key=self._labels[f.key].name) for f in suggestion.findings)
        )
        return {
            "frame": suggestion.frame,
            "severity": round(suggestion.severity, 4),
            "objects": list(suggestion.keys),
            "why": named.text,
        }


def _write_overlay(
    journal: Journal,
    source: FrameSource,
    labels: Mapping[str, Label],
    out: Path,
    reporter: Reporter,
    first_last: tuple[int, int],
    stop: threading.Event,
) -> None:
    first, last = first_last
    info = source.info
    overlay = Overlay({key: label.name for key, label in labels.items()}, info.fps, info.frames)
    rows = journal.results()
    pending = next(rows, None)
    blank = np.zeros((info.height, info.width, 3), np.uint8)  # stands for a frame that cannot be had
    with (
        reporter.stage("Overlay", last - first + 1) as stage,
        VideoWriter(out / "overlay.mp4", info.width, info.height, info.fps) as video,
        closing(numbered(source, first, last + 1)) as frames,
    ):
        for frame, image in frames:
            if stop.is_set():
                video.abandon()
                return
            results: list[Result] = []
            if pending is not None and pending[0].frame == frame:
                results, pending = pending, next(rows, None)
            picture = blank if isinstance(image, FrameUnreadable) else image
            video.write(overlay.draw(picture, frame, results))
            stage.advance()


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes its place when whole; what stood there before stays until then."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
