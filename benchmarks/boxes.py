"""How well one box is followed, by our tracker without weights and by OpenCV's, in one run: overlap, success, frames/s.

    python benchmarks/boxes.py [--clips NAME ...] [--trackers NAME ...] [--frames N] [--threads N] [--venv DIR] [--out DIR]

Needs the evaluation data (../shared beside the checkout); without it only the time per number of objects is measured,
saying so. MIL is in the suite's own OpenCV; CSRT and KCF are in opencv-contrib, which is put into an environment of its
own under --venv on the first run, and left out, saying so, when that cannot be had. Every clip is played in both
directions. Real clips and synthetic ones are averaged apart. Frames/s are of this machine as it is; "per core second" is
of processor time, which other programs disturb less. Lost frames count as overlap 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clips import box_clips, missing
from common.evaluation.boxes import BoxScores, score, success_curve
from common.geometry.types import Box
from common.trackers.boxes.correlation import CorrelationTracker
from common.tracking.contract import Prompt
from common.video.contract import Image

ROOT = Path(__file__).resolve().parents[1]
Array = NDArray[np.float64]
OURS = "correlation"
_RUNNER = Path(__file__).with_name("boxes_opencv.py")


@dataclass(frozen=True)
class Result:
    """One tracker on one clip in one direction. truth, boxes: float64 (n, 4) without the first frame."""

    tracker: str
    clip: str
    backward: bool
    truth: Array
    boxes: Array
    seconds: float
    cpu_seconds: float

    @property
    def scores(self) -> BoxScores:
        return score(self.truth, self.boxes)


def ours(frames: Sequence[Image], box: Array) -> tuple[Array, float, float]:
    """Boxes (n - 1, 4) and the wall and processor seconds they took."""
    x, y, w, h = box.tolist()
    wall, cpu = time.perf_counter(), time.process_time()
    run = CorrelationTracker().start(frames[0], [Prompt("a", Box(np.array([x, y, x + w, y + h], np.float32)))])
    out = np.full((len(frames) - 1, 4), np.nan)
    for row, frame in zip(out, frames[1:], strict=True):
        geometry = run.push(frame)[0][0].geometry
        if isinstance(geometry, Box):
            row[:2], row[2:] = geometry.xyxy[:2], geometry.xyxy[2:] - geometry.xyxy[:2]
    return out, time.perf_counter() - wall, time.process_time() - cpu


def opencv(python: Path, name: str, frames: Sequence[Image], box: Array, threads: int) -> tuple[Array, float, float]:
    """The same by a tracker of OpenCV."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        np.save(path, np.stack(frames))
        command = [str(python), str(_RUNNER), name, str(path), ",".join(f"{v:.2f}" for v in box), str(threads)]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    out = np.array([[np.nan] * 4 if b is None else b for b in answer["boxes"]], float).reshape(-1, 4)
    return out, float(answer["seconds"]), float(answer["cpu_seconds"])


def contrib_python(folder: Path) -> Path | None:
    """The interpreter of an environment with opencv-contrib, made when it is not there; None when it cannot be had."""
    python = folder / "bin" / "python"
    check = [str(python), "-c", "import cv2; cv2.TrackerCSRT_create"]
    if python.exists() and subprocess.run(check, check=False, capture_output=True).returncode == 0:
        return python
    print(f"making {folder} with opencv-contrib-python-headless ...", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False, capture_output=True)
    if made.returncode == 0:
        pip = [str(python), "-m", "pip", "install", "-q", "opencv-contrib-python-headless", "numpy"]
        subprocess.run(pip, check=False, capture_output=True)
        if subprocess.run(check, check=False, capture_output=True).returncode == 0:
            return python
    print("opencv-contrib cannot be had here: CSRT and KCF are left out")
    return None


def measure(args: argparse.Namespace) -> list[Result]:
    contrib = contrib_python(args.venv) if {"csrt", "kcf"} & set(args.trackers) else None
    results: list[Result] = []
    for clip in box_clips():
        if args.clips and clip.name not in args.clips:
            continue
        labelled = np.flatnonzero(np.isfinite(clip.boxes).all(1))
        if len(labelled) < 2:
            continue
        first, stop = int(labelled[0]), min(int(labelled[-1]) + 1, int(labelled[0]) + args.frames)
        frames, truth = list(clip.source.stream(first, stop)), clip.boxes[first:stop]
        for backward in (False, True):
            if backward:
                last = int(np.flatnonzero(np.isfinite(truth).all(1))[-1]) + 1
                frames, truth = frames[:last][::-1], truth[:last][::-1]
            for name in args.trackers:
                if name == OURS:
                    boxes, wall, cpu = ours(frames, truth[0])
                else:
                    python = Path(sys.executable) if name == "mil" else contrib
                    if python is None:
                        continue
                    boxes, wall, cpu = opencv(python, name, frames, truth[0], args.threads)
                results.append(Result(name, clip.name, backward, truth[1:], boxes, wall, cpu))
        done = [r for r in results if r.clip == clip.name]
        print(f"  {clip.name}: " + ", ".join(f"{r.tracker} {r.scores.overlap:.3f}" for r in done), flush=True)
    return results


def tables(results: list[Result], trackers: Sequence[str]) -> None:
    names = [t for t in trackers if any(r.tracker == t for r in results)]
    for title, synthetic in (("Real clips", False), ("Synthetic clips", True)):
        part = [r for r in results if r.clip.startswith("synth/") == synthetic]
        if not part:
            continue
        print(
            f"\n{title}\n\n| tracker | direction | mean overlap | success AUC | overlap > 0.5 | precision@20 | lost | frames/s | per core second |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for name in names:
            for label, wanted in (("forward", {False}), ("backward", {True}), ("both", {False, True})):
                own = [r for r in part if r.tracker == name and r.backward in wanted]
                mean = [
                    np.mean([getattr(r.scores, k) for r in own])
                    for k in ("overlap", "auc", "success_50", "precision", "lost")
                ]
                frames = sum(len(r.boxes) for r in own)
                speed = frames / sum(r.seconds for r in own), frames / sum(r.cpu_seconds for r in own)
                print(
                    f"| {name} | {label} | "
                    + " | ".join(f"{v:.3f}" for v in mean)
                    + f" | {speed[0]:.1f} | {speed[1]:.1f} |"
                )
    print("\n| clip | " + " | ".join(f"{n} forward / backward" for n in names) + " |\n|---|" + "---|" * len(names))
    for clip in dict.fromkeys(r.clip for r in results):
        cells = []
        for name in names:
            own = {r.backward: r.scores.overlap for r in results if r.tracker == name and r.clip == clip}
            cells.append(" / ".join(f"{own[b]:.3f}" for b in sorted(own)))
        print(f"| {clip} | " + " | ".join(cells) + " |")


def plot(results: list[Result], path: Path) -> None:
    """Success curves of the real clips, both directions."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4.5))
    part = [r for r in results if not r.clip.startswith("synth/")] or results
    for name in dict.fromkeys(r.tracker for r in part):
        curve = np.mean([success_curve(r.truth, r.boxes) for r in part if r.tracker == name], axis=0)
        axes.plot(np.linspace(0, 1, len(curve)), curve, label=f"{name} ({curve.mean():.3f})")
    axes.set(xlabel="overlap threshold", ylabel="share of frames", title="Success, both directions", ylim=(0, 1))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    print(f"\nplot: {path}")


def crowd(counts: Sequence[int], frames: int = 12) -> None:
    """Time per frame against the number of objects, on a textured 854x480 clip made here."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (60, 110, 3)).astype(np.uint8), (900, 520), interpolation=cv2.INTER_CUBIC)
    print("\n| objects | ms/frame | core ms/frame |\n|---|---|---|")
    for count in counts:
        prompts = []
        for k in range(count):
            x, y = 60.0 + 150 * (k % 5), 50.0 + 100 * (k // 5)
            prompts.append(Prompt(str(k), Box(np.array([x, y, x + 70, y + 60], np.float32))))
        pictures = [np.ascontiguousarray(ground[t : t + 480, t : t + 854]) for t in range(frames)]
        run = CorrelationTracker().start(pictures[0], prompts)
        wall, cpu = time.perf_counter(), time.process_time()
        for picture in pictures[1:]:
            run.push(picture)
        wall, cpu = (v / (frames - 1) * 1000 for v in (time.perf_counter() - wall, time.process_time() - cpu))
        print(f"| {count} | {wall:.1f} | {cpu:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Box trackers side by side.")
    parser.add_argument("--clips", nargs="*", default=[])
    parser.add_argument("--trackers", nargs="*", default=[OURS, "mil", "csrt", "kcf"])
    parser.add_argument("--frames", type=int, default=10**9, help="most frames of a clip")
    parser.add_argument("--threads", type=int, default=1, help="OpenCV's threads, the same for all")
    parser.add_argument("--venv", type=Path, default=ROOT / "out" / "benchmark-venv")
    parser.add_argument("--out", type=Path, default=ROOT / "out")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    for absent in missing():
        print(f"skipped, not on this machine: {absent}")
    results = measure(args)
    if results:
        tables(results, args.trackers)
        plot(results, args.out / "boxes.png")
    else:
        print("no clips: the quality table is skipped")
    crowd((1, 5, 20))


if __name__ == "__main__":
    main()
