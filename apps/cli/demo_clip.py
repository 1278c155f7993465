"""The demonstration clip as a file, with the first labels of its objects; drawn in this process or in one of its own."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.evaluation.demo import GEOMETRY, demo_scene
from common.evaluation.scenes import ObjectTruth, Scene
from common.geometry.annotation import AnnotationWriter, Figure
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Polygon, Skeleton, Value
from common.geometry.types import Mask
from common.video.contract import Image
from common.video.writer import VideoWriter

_THREADS = 2


def write_clip(out: Path) -> Path:
    """Render the clip to `out`/demo.mp4 and its objects' first labels to `out`/labels. Made once, kept after that."""
    # Noise of a grey level costs as much as all the rest of the picture, and the encoder takes it away.
    scene = replace(demo_scene(), noise=0.0)
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


class Drawing:
    """The demonstration clip, drawn by a process of its own: it takes as long as everything else together."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._answer, answer = context.Pipe(duplex=False)
        self._process = context.Process(target=_draw, args=(folder, answer), daemon=True)  # ends with this one
        self._process.start()
        answer.close()

    def wait(self, ending: threading.Event) -> Path | None:
        """The clip; None when there is no time left for it. Raises what went wrong."""
        while not self._answer.poll(0.1):
            if ending.is_set():
                self._process.kill()
                return None
        try:
            drawn = self._answer.recv()
        except EOFError as error:
            raise RuntimeError("the process that draws the demonstration clip died") from error
        self._process.join()
        if isinstance(drawn, Exception):
            raise drawn
        clip: Path = drawn
        return clip


def _draw(folder: Path, answer: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it too; who waits for it ends it
    try:
        answer.send(write_clip(folder))
    except UserError as error:
        answer.send(error)
