"""A short clip with known truth, and the command line: in a process of its own, as a person runs it, and without one."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

import apps.cli.job
from apps.__main__ import main
from common.evaluation.scenes import Scene, random_scene
from common.video.writer import VideoWriter

ROOT = Path(__file__).parents[3]
FRAMES = 24

Command = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Clip:
    """scene: its truth. video: the file. key: an object that is in full view on frame 0."""

    scene: Scene
    video: Path
    key: str

    def box(self, frame: int = 0) -> str:
        truth = self.scene.truth(frame)[self.key].box
        assert truth is not None
        return ",".join(f"{v:.0f}" for v in truth.xyxy)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    scene = random_scene(11, frames=FRAMES, width=320, height=240)
    video = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(video, scene.width, scene.height, scene.fps) as writer:
        for image in scene.source().stream(0, scene.frames):
            writer.write(image)
    first = scene.truth(0)
    key = max(first.objects, key=lambda o: o.visible_fraction * (o.mask.sum() > 400)).key
    return Clip(scene, video, key)


@pytest.fixture(scope="session")
def mask_file(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    cv2.imwrite(str(path), clip.scene.truth(0)[clip.key].mask.astype(np.uint8) * 255)
    return path


def arguments(parts: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", "apps", *map(str, parts)]


@pytest.fixture(scope="session")
def process() -> Command:
    """Runs `python -m apps ...` to its end, as a process of its own."""

    def run(*parts: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments(parts), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def command() -> Command:
    """The same in this process, which saves the start, two seconds: for what a process of its own adds nothing to."""

    def run(*parts: object) -> subprocess.CompletedProcess[str]:
        told, printed = io.StringIO(), io.StringIO()
        handler = logging.StreamHandler(told)  # pytest has set up logging before the command line can
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(told),
        ):
            patch.chdir(ROOT)
            patch.setattr(apps.cli.job, "keep_compact", lambda: None)  # for good, and slower: not for the other tests
            try:
                code = main([str(part) for part in parts])
            except Exception:
                traceback.print_exc()
                code = 1
            finally:
                logging.getLogger().removeHandler(handler)
        return subprocess.CompletedProcess(list(parts), code, printed.getvalue(), told.getvalue())

    return run


def outputs(out: Path) -> dict[str, bytes]:
    """Everything that must be equal for equal jobs: all files but the video and the timings."""
    files = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    files.pop("overlay.mp4", None)
    summary = json.loads(files.pop("summary.json"))
    files["confidence"] = json.dumps([summary["confidence"], summary["review"], summary["objects"]]).encode()
    return files
