"""`demo`: the main job with nothing to prepare, on a clip made by code or on one's own video."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from apps.cli.progress import Reporter
from apps.cli.track import track
from common.evaluation.demo import GEOMETRY, demo_scene
from common.evaluation.scenes import ObjectTruth, Scene
from common.geometry.annotation import AnnotationWriter, Figure
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Polygon, Skeleton, Value
from common.geometry.types import Mask
from common.video.contract import Image
from common.video.reader import open_source
from common.video.writer import VideoWriter

_THREADS = 2


def demo(
    video: Annotated[
        Path | None, typer.Argument(metavar="[VIDEO]", help="Your own video; default: a made-up clip.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="x1,y1,x2,y2[@frame]", help="What to track; default: the middle of the picture."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> int:
    """Track the demonstration clip, or a box in your own video, with the built-in trackers."""
    prompts: Path | None = None
    with Reporter(quiet) as reporter:
        if video is None:
            video = write_clip(out)
            prompts = out / "labels" / "annotation.json" if box is None else None
        elif box is None:
            info = open_source(video).info
            x, y = info.width / 4, info.height / 4
            box = f"{x:.0f},{y:.0f},{3 * x:.0f},{3 * y:.0f}"
            reporter.warn(f"No BOX was given: tracking the middle of the picture, BOX={box}.")
    return track(video, out, prompts=prompts, box=[box] if box else None, quiet=quiet)


def write_clip(out: Path) -> Path:
    """Render the clip to `out`/demo.mp4 and its objects' first labels to `out`/labels. Made once, kept after that."""
    scene = demo_scene()
    clip = out / "demo.mp4"
    labels = out / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    if not clip.exists():
        with VideoWriter(clip, scene.width, scene.height, scene.fps) as writer:
            for image in _rendered(scene):
                writer.write(image)
    truth = scene.truth(0)
    values = {name: _label(truth[name], kind) for name, kind in GEOMETRY.items()}
    meta = ProjectMeta.of(ObjectClass.of(name, value) for name, value in values.items())
    meta.write(labels / "meta.json")
    with AnnotationWriter(labels / "annotation.json", scene.width, scene.height, meta, name=clip.name) as annotation:
        for name in values:
            annotation.add_object(name, name)
        annotation.write(0, [Figure(name, value) for name, value in values.items()])
    return clip


def _rendered(scene: Scene) -> Iterator[Image]:
    """All frames in order, drawn by several threads a few frames ahead."""
    with ThreadPoolExecutor(_THREADS, "draw") as painters:
        ahead: deque[Future[Image]] = deque()
        for frame in range(scene.frames):
            ahead.append(painters.submit(scene.render, frame))
            if len(ahead) > 2 * _THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _label(truth: ObjectTruth, kind: str) -> Value:
    """What a careful labeler would draw."""
    value: Value | None
    match kind:
        case "box":
            value = truth.box
        case "oriented_box":
            value = truth.oriented
        case "mask":
            value = Mask.from_array(truth.mask)
        case "polygon":
            value = Polygon(truth.polygon.xy) if truth.polygon else None
        case _:
            value = None
            if truth.skeleton is not None:
                ids = tuple(str(number) for number in np.arange(len(truth.skeleton.xy)))
                value = Skeleton(ids, truth.skeleton.xy, ~truth.skeleton.visible, truth.skeleton.edges)
    if value is None:
        raise ValueError(f"{truth.key} is not in the first frame")
    return value
