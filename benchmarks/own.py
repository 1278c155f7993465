"""The box trackers that come with their weights, beside the filter without and OpenCV's: overlap and speed in one run.

    python benchmarks/own.py [--trackers NAME[=WEIGHTS] ...] [--fresh N] [--first SEED] [--frames N] [--real] [--synth] [--venv DIR]

Fresh scenes are made here from numbers (`training.scenes`): other pictures, textures, outlines and motions than the networks
were trained on. --real and --synth add the clips of ../shared/data. Everything is played in both directions; lost frames count as
overlap 0. MIL is in the suite's own OpenCV; CSRT and KCF run in an environment of their own (see benchmarks/boxes.py), and
NanoTrack where its files are in ../shared/data/weights. "cpu" is frames per second of processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.boxes import contrib_python, opencv
from benchmarks.clips import DATA, box_clips
from common.evaluation.boxes import score
from common.geometry.types import Box
from common.trackers import registry
from common.tracking.contract import Prompt, Tracker
from common.video.contract import Image
from common.weights.options import EngineOptions
from training.scenes import TARGET, fresh

Array = NDArray[np.float64]
NANO = DATA / "weights" / "NanoTrack" / "nanotrackv2"
_OPENCV = ("csrt", "kcf", "mil")
_KINDS = ("fresh", "real", "synth")


@dataclass(frozen=True)
class Row:
    """One tracker on one clip in one direction."""

    tracker: str
    kind: str
    clip: str
    backward: bool
    overlap: float
    frames: int
    seconds: float
    cpu_seconds: float


def clips(args: argparse.Namespace) -> Iterator[tuple[str, str, list[Image], Array]]:
    """Kind, name, frames and true boxes (n, 4) x, y, width, height, NaN where nothing is to be seen."""
    for number in range(args.first, args.first + args.fresh):
        scene = fresh(number, args.frames)
        truth = np.full((args.frames, 4), np.nan)
        for frame in range(args.frames):
            target = scene.truth(frame)[TARGET]
            if target.box is not None and target.amodal is not None and target.visible_fraction > 0.3:
                low = np.maximum(target.amodal.xyxy[:2], 0)
                high = np.minimum(target.amodal.xyxy[2:], (scene.width, scene.height))
                truth[frame] = *low, *(high - low)
        yield "fresh", scene.name, [scene.render(f) for f in range(args.frames)], truth
    for clip in box_clips() if args.real or args.synth else ():
        kind = "synth" if clip.name.startswith("synth/") else "real"
        if getattr(args, kind):
            yield kind, clip.name, list(clip.source.stream(0, clip.source.info.frames)), clip.boxes


def follow(tracker: Tracker, frames: Sequence[Image], box: Array) -> tuple[Array, float, float]:
    """Boxes (n - 1, 4), wall and processor seconds."""
    x, y, w, h = box.tolist()
    wall, cpu = time.perf_counter(), time.process_time()
    run = tracker.start(frames[0], [Prompt("a", Box(np.array([x, y, x + w, y + h], np.float32)))])
    out = np.full((len(frames) - 1, 4), np.nan)
    for row, frame in zip(out, frames[1:], strict=True):
        geometry = run.push(frame)[0][0].geometry
        if isinstance(geometry, Box):
            row[:2], row[2:] = geometry.xyxy[:2], geometry.xyxy[2:] - geometry.xyxy[:2]
    return out, time.perf_counter() - wall, time.process_time() - cpu


def measure(args: argparse.Namespace) -> list[Row]:
    """All trackers on all clips."""
    contrib = contrib_python(args.venv) if {"csrt", "kcf"} & set(args.trackers) else None
    made: dict[str, Tracker] = {}
    for text in args.trackers:
        if text in _OPENCV:
            continue
        name, _, weights = text.partition("=")
        options = EngineOptions(weights=weights or None, device="cpu")
        if name == "nanotrack":
            if not NANO.is_dir():
                print(f"skipped, not on this machine: {NANO}")
                continue
            options = EngineOptions(weights=str(NANO))
        made[text] = registry.make(name, options)
    rows: list[Row] = []
    for kind, name, frames, truth in clips(args):
        labelled = np.flatnonzero(np.isfinite(truth).all(1))
        if len(labelled) < 2:
            continue
        part = slice(int(labelled[0]), int(labelled[-1]) + 1)
        for backward in (False, True):
            order = -1 if backward else 1
            images, boxes = frames[part][::order], truth[part][::order]
            for tracker in args.trackers:
                if tracker in made:
                    found, wall, cpu = follow(made[tracker], images, boxes[0])
                elif tracker in _OPENCV and (tracker == "mil" or contrib is not None):
                    python = Path(sys.executable) if contrib is None or tracker == "mil" else contrib
                    found, wall, cpu = opencv(python, tracker, images, boxes[0], args.threads)
                else:
                    continue
                overlap = score(boxes[1:], found).overlap
                rows.append(Row(tracker, kind, name, backward, overlap, len(found), wall, cpu))
        done = [r for r in rows if r.clip == name]
        print(f"  {name}: " + ", ".join(f"{r.tracker} {r.overlap:.3f}" for r in done), flush=True)
    return rows


def table(rows: Sequence[Row], trackers: Sequence[str]) -> None:
    """Means over clips, and the spread of their difference to the first tracker (bootstrap over clips)."""
    for kind in _KINDS:
        part = [r for r in rows if r.kind == kind]
        if not part:
            continue
        count = len({r.clip for r in part})
        print(f"\n{kind}: {count} clips\n")
        print("| tracker | forward | backward | both | difference to the first, 95 % | frames/s | per core second |")
        print("|---|---|---|---|---|---|---|")
        first: dict[str, float] = {}
        for tracker in trackers:
            own = [r for r in part if r.tracker == tracker]
            if not own:
                continue
            way = [float(np.mean([r.overlap for r in own if r.backward is b])) for b in (False, True)]
            mean = {c: float(np.mean([r.overlap for r in own if r.clip == c])) for c in {r.clip for r in own}}
            first = first or mean
            low, high = spread(np.array([mean[c] - first[c] for c in sorted(mean)]))
            frames = sum(r.frames for r in own)
            speed = frames / sum(r.seconds for r in own), frames / sum(r.cpu_seconds for r in own)
            print(
                f"| {tracker} | {way[0]:.3f} | {way[1]:.3f} | {np.mean(way):.3f} | {low:+.3f} .. {high:+.3f} "
                f"| {speed[0]:.1f} | {speed[1]:.1f} |"
            )


def spread(differences: Array) -> tuple[float, float]:
    """95 % interval of the mean, drawn from the clips."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(len(differences), size=(2000, len(differences)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description="Box trackers with weights of our own, side by side with others.")
    parser.add_argument(
        "--trackers",
        nargs="*",
        default=["correlation", "tiny", "hybrid", "nanotrack", "csrt", "kcf"],
        help="NAME, or NAME=FILE for other weights than the suite's own",
    )
    parser.add_argument("--fresh", type=int, default=16, help="number of fresh scenes")
    parser.add_argument("--first", type=int, default=1000, help="number of the first")
    parser.add_argument("--frames", type=int, default=60, help="frames of a fresh scene")
    parser.add_argument("--real", action="store_true", help="the real clips of ../shared/data as well")
    parser.add_argument("--synth", action="store_true", help="its synthetic clips as well")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's and OpenCV's threads")
    parser.add_argument("--venv", type=Path, default=Path(__file__).resolve().parents[1] / "out" / "benchmark-venv")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    rows = measure(args)
    table(rows, args.trackers)
    print(f"\nload of the machine over the last quarter of an hour: {os.getloadavg()[2]:.1f}, cores: {os.cpu_count()}")


if __name__ == "__main__":
    main()
