"""`associate`: identities for detections, MOT text in, MOT text out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from apps.cli.progress import Reporter
from common.association import registry
from common.association.camera import text as camera_text
from common.association.camera.motion import CameraMotion
from common.association.contract import Affine, Tracks
from common.association.offline.backward import run_backward
from common.association.offline.both_ways import both_ways, unchanged
from common.association.offline.repair import RepairSettings, repair
from common.association.reid.bank import LooksBank
from common.association.reid.descriptor import ALIKE, describe
from common.association.settings import Settings, Timing
from common.errors import FrameUnreadable, OutputUnusable, UserError
from common.evaluation import mot_text
from common.geometry.detections import Detections
from common.video.contract import FrameSource, Image
from common.video.reader import open_source


def associate(
    detections: Annotated[
        Path, typer.Argument(metavar="DETECTIONS.txt", help="MOT text: frame (from 1), any, x, y, w, h, score, class.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.txt", help="Where the tracks go.", show_default=False)],
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="VIDEO|FOLDER", help="The pictures: for camera motion and looks; better.", show_default=False
        ),
    ] = None,
    camera_motion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Camera motion in BoT-SORT's text format, instead of pictures.", show_default=False
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Frames per second; default: the video's, else 30.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Picture size; default: the video's.", show_default=False)
    ] = None,
    tracker: Annotated[str, typer.Option(help=" or ".join(registry.names()))] = registry.names()[0],
    no_repair: Annotated[bool, typer.Option("--no-repair", help="Leave out the repair after the run.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> int:
    """Give the detections of a video identities: who is who from frame to frame."""
    if frames is not None and camera_motion is not None:
        raise UserError("Give --frames or --camera-motion, not both: with pictures the camera's motion is measured.")
    rows = mot_text.read(detections)
    source = None if frames is None else open_source(frames)
    wh = _size(size) if size is not None else (None if source is None else (source.info.width, source.info.height))
    rate = fps if fps is not None else (0.0 if source is None else source.info.fps)
    _writable(out, detections, camera_motion)
    step = _step(rows)
    first = int(rows.frame.min(initial=1)) if step > 1 else 1
    settings = Settings(timing=Timing(first, step, rate), alike=ALIKE)
    engine = registry.make(tracker, settings)
    scores = _scores(rows, detections)
    given = {} if camera_motion is None else camera_text.read(camera_motion)
    measured = CameraMotion("none" if source is None else "flow")
    motions: dict[int, Affine] = {}
    found: list[Tracks] = []
    bank = LooksBank()
    with Reporter(quiet) as reporter:
        last = max(rows.frames, 1)
        if source is not None and last > source.info.frames:
            raise UserError(f"{detections} has frame {last}, but {frames} ends at frame {source.info.frames}.")
        with reporter.stage("Tracking", len(range(first, last + 1, step))) as stage:
            for work in _frames(rows, scores, range(first, last + 1, step), source):
                seen = work.detections
                if work.image is not None and len(seen):
                    seen = replace(seen, embeddings=describe(work.image, seen.xyxy))
                camera = None if work.image is None else measured.estimate(work.image)
                if given and work.frame > first:
                    camera = camera_text.between(given, work.frame - 1 - step, work.frame - 1)
                if camera is not None:
                    motions[work.frame] = camera
                found.append(engine.update(seen, frame=work.frame, camera=camera))
                bank.add(found[-1], work.frame, seen)
                stage.advance()
        found.append(engine.flush())
        tracks = Tracks.joined(found)
        if not no_repair:
            again = _frames(rows, scores, range(first, last + 1, step)[::-1], None)
            backward = run_backward(tracker, settings, ((work.frame, work.detections) for work in again), motions)
            forward, tracks = tracks, both_ways(tracks, backward, rate or 30.0, step, motions)
            known = unchanged(forward, tracks)
            done = repair(
                tracks,
                RepairSettings(fps=rate or 30.0, step=step, flicker_score=settings.thresholds.brief),
                size=wh,
                span=(first, last),
                motions=motions,
                looks={ident: look for ident, look in bank.looks().items() if ident in known} or None,
            )
            tracks = done.tracks
            reporter.say(done.summary())
    _write(out, tracks, labelled=bool((rows.label >= 0).any()))
    return 0


@dataclass(frozen=True)
class _Work:
    frame: int
    detections: Detections
    image: Image | None


def _frames(rows: mot_text.MotRows, scores: np.ndarray, numbers: range, source: FrameSource | None) -> Iterator[_Work]:
    """The frames in order, from 1. Pictures that cannot be read are left out."""
    order = np.argsort(rows.frame, kind="stable")
    xyxy = rows.xywh.copy()
    xyxy[:, 2:] += xyxy[:, :2]
    labels = np.maximum(rows.label, 0)
    images = None if source is None else source.stream(0, numbers[-1])
    reached = 0
    for number in numbers:
        low, high = np.searchsorted(rows.frame[order], (number, number + 1))
        chosen = order[low:high]
        image: Image | None = None
        while images is not None and reached < number:
            try:
                image = next(images)
            except FrameUnreadable:
                images, image = None, None
            reached += 1
        yield _Work(number, Detections(xyxy[chosen], scores[chosen], labels[chosen]), image)


def _scores(rows: mot_text.MotRows, path: Path) -> np.ndarray:
    """0..1: as given, or per cent; -1 throughout stands for scores that are not known."""
    flag = rows.flag
    if not len(flag) or (flag == -1).all():
        return np.ones(len(flag))
    low, high = float(flag.min()), float(flag.max())
    if low < 0 or high > 100:
        raise UserError(
            f"{path}: scores (column 7) run from {low:g} to {high:g}; they must be 0 to 1, 0 to 100, or all -1."
        )
    return flag / 100 if high > 1 else flag


def _step(rows: mot_text.MotRows) -> int:
    """Frames from one detection run to the next: 1, or more when all frames with detections are that far apart."""
    numbers = np.unique(rows.frame)
    return int(np.gcd.reduce(np.diff(numbers))) if len(numbers) > 3 else 1


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise UserError(f"--size is WIDTHxHEIGHT in pixels, such as 1920x1080, got {text!r}.")
    return int(width), int(height)


def _writable(out: Path, *inputs: Path | None) -> None:
    if any(path is not None and path.resolve() == out.resolve() for path in inputs):
        raise OutputUnusable(f"{out} would replace what the tracks are made from; choose another name for --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            raise OutputUnusable(f"{out} is a folder; --out is the name of a text file.")
        draft = _draft(out)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise OutputUnusable(f"{out} cannot be written: {error.strerror or error}.") from None


def _write(out: Path, tracks: Tracks, labelled: bool) -> None:
    """frame, id, x, y, w, h, score, class, visible; the class as in the detections, 1 where they have none. Written beside
    and then put in place, so that a file is whole or not there."""
    draft = _draft(out)
    with draft.open("w", encoding="utf-8") as file:
        for frame, identity, (x1, y1, x2, y2), score, label in zip(
            tracks.frames.tolist(),
            tracks.ids.tolist(),
            tracks.xyxy.tolist(),
            tracks.scores.tolist(),
            tracks.classes.tolist(),
            strict=True,
        ):
            kind = label if labelled else 1
            file.write(f"{frame},{identity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},{kind},1\n")
    draft.replace(out)


def _draft(out: Path) -> Path:
    return out.with_name(out.name + ".part")
