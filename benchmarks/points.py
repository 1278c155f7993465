"""How well points are followed: the built-in tracker against plain pyramidal Lucas-Kanade of OpenCV, in one run.

    python benchmarks/points.py [--shared FOLDER] [--synth FOLDER] [--clips NAME ...] [--seeds N ...] [--fresh N ...] [--every K]
        [--trackers NAME[=WEIGHTS] ...] [--threads N] [--plot FILE.png]

Clips: the exact synthetic ones of the evaluation data (../shared beside the checkout; without it they are skipped, and it
says so), scenes rendered here for each seed, fresh scenes (`training.scenes`) for each number, and BADJA's hand-labelled joints. Points are queried at their first visible
frame, those of one frame together. Scores are TAP-Vid's (query first), in the clip's own pixels and on its 256 x 256 raster;
`lost` is the share of visible truth that is more than 16 px away although the tracker claims to see the point. `--every K`
runs only every K-th query frame besides the first, for a quick look. Frames/s are per second of processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.demo import demo_scene
from common.evaluation.points import PointScores, pck, score
from common.evaluation.scenes import Scene
from common.geometry.types import Points
from common.trackers import registry
from common.tracking.contract import Prompt
from common.video.contract import Image
from common.weights.options import EngineOptions

FAR = 16.0
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Clip:
    """Pictures (t, h, w, 3), truth (n, t, 2), visible (n, t), query frames (n,)."""

    name: str
    frames: list[Image]
    truth: np.ndarray
    visible: np.ndarray
    query: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.frames[0].shape[:2]
        return width, height


Follower = Callable[[Image, np.ndarray], Callable[[Image], tuple[np.ndarray, np.ndarray]]]
"""First picture and points (n, 2) -> a function from the next picture to positions (n, 2) and visibilities (n,)."""


def named(text: str) -> Follower:
    """A tracker of the suite, NAME or NAME=WEIGHTS."""
    name, _, weights = text.partition("=")
    tracker = registry.make(name, EngineOptions(weights=weights or None, device="cpu"))

    def follow(image: Image, xy: np.ndarray) -> Callable[[Image], tuple[np.ndarray, np.ndarray]]:
        run = tracker.start(image, [Prompt("points", Points(xy))])

        def push(following: Image) -> tuple[np.ndarray, np.ndarray]:
            ((prediction,),) = run.push(following)
            assert isinstance(prediction.geometry, Points)
            return prediction.geometry.xy, prediction.geometry.visible

        return push

    return follow


def plain(image: Image, xy: np.ndarray) -> Callable[[Image], tuple[np.ndarray, np.ndarray]]:
    """OpenCV's calcOpticalFlowPyrLK from frame to frame, visible while going back leads home within a pixel."""
    before, points = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), xy.astype(np.float32).reshape(-1, 1, 2)
    settings = {"winSize": (21, 21), "maxLevel": 3, "criteria": (3, 30, 0.01)}

    def push(following: Image) -> tuple[np.ndarray, np.ndarray]:
        nonlocal before, points
        after = cv2.cvtColor(following, cv2.COLOR_RGB2GRAY)
        there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **settings)
        home, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **settings)
        seen = (found.ravel() > 0) & (returned.ravel() > 0) & (np.hypot(*(home - points)[:, 0].T) < 1)
        before, points = after, there
        return there[:, 0], seen

    return push


def follow(clip: Clip, follower: Follower, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions (n, t, 2), visibilities (n, t) of the points of those query frames, and frames per second."""
    xy, seen = np.zeros(clip.truth.shape, np.float64), np.zeros(clip.visible.shape, bool)
    frames, spent = 0, 0.0
    for first in queries:
        index = np.flatnonzero(clip.query == first)
        xy[index, first], seen[index, first] = clip.truth[index, first], True
        begun = time.process_time()
        push = follower(clip.frames[first], clip.truth[index, first].astype(np.float32))
        for t in range(first + 1, len(clip.frames)):
            xy[index, t], seen[index, t] = push(clip.frames[t])
        spent += time.process_time() - begun
        frames += len(clip.frames) - first
    return xy, seen, frames / spent if spent else float("nan")


def shared_clips(folder: Path, names: list[str] | None) -> Iterator[Clip]:
    for path in sorted(p for p in folder.iterdir() if (p / "points.npz").exists()):
        if names is None or path.name in names:
            capture = cv2.VideoCapture(str(path / "video.mp4"))
            frames: list[Image] = []
            while (got := capture.read())[0]:
                frames.append(np.ascontiguousarray(got[1][..., ::-1]))
            data = np.load(path / "points.npz")
            yield Clip(path.name, frames, data["tracks"], data["visible"], data["query_frame"].astype(int))


def rendered_clip(scene: Scene, name: str) -> Clip:
    """A scene with points on its objects and on the background."""
    truths = [scene.truth(t) for t in range(scene.frames)]
    names = [key for key in scene.keys if all(t[key].points is not None for t in truths)]
    sets = [[t[key].points for key in names] + [t.background] for t in truths]
    xy = np.stack([np.concatenate([p.xy for p in frame]) for frame in sets], 1).astype(np.float64)
    seen = np.stack([np.concatenate([p.visible for p in frame]) for frame in sets], 1)
    keep = seen.any(1)
    frames = [scene.render(t) for t in range(scene.frames)]
    return Clip(name, frames, xy[keep], seen[keep], seen[keep].argmax(1))


def undeclared(clip: Clip, xy: np.ndarray, seen: np.ndarray, scored: np.ndarray) -> float:
    truth_seen = clip.visible & scored
    away = np.hypot(*np.moveaxis(xy - clip.truth, 2, 0)) > FAR
    return np.count_nonzero(away & seen & truth_seen) / max(1, np.count_nonzero(truth_seen))


def badja(data: Path, followers: dict[str, Follower]) -> Iterator[tuple[str, dict[str, float]]]:
    """PCK of joints from their first labelled frame on, per follower."""
    for path in sorted((data / "tap" / "BADJA").glob("*.json")):
        label = json.loads(path.read_text())
        pictures = sorted((data / label["clip"]).glob("*.jpg"))
        masks = sorted((data / label["clip"].replace("JPEGImages", "Annotations")).glob("*.png"))
        if not pictures:
            continue
        labelled, visible = np.array(label["frames"]), np.array(label["visible"], bool).T
        truth = np.array([[xy or (0, 0) for xy in row] for row in label["xy"]], float).transpose(1, 0, 2)
        images = [np.ascontiguousarray(cv2.imread(str(p))[..., ::-1]) for p in pictures]
        tolerance = np.array([0.2 * np.sqrt((cv2.imread(str(masks[f]), 0) > 0).sum()) for f in labelled])
        query = visible.argmax(1)
        result: dict[str, float] = {}
        for name, follower in followers.items():
            xy = np.full(truth.shape, np.inf)
            for first in np.unique(query):
                index = np.flatnonzero(query == first)
                push = follower(images[labelled[first]], truth[index, first].astype(np.float32))
                for frame in range(labelled[first] + 1, labelled[-1] + 1):
                    positions, _ = push(images[frame])
                    (where,) = np.nonzero(labelled == frame)
                    if len(where):
                        xy[index, where[0]] = positions
            later = np.arange(len(labelled)) > query[:, None]
            result[name] = pck(truth, visible & later, xy, tolerance)
        yield path.stem, result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--synth", type=Path, help="folder of clips, instead of the shared ones")
    parser.add_argument("--clips", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[41, 42])
    parser.add_argument("--fresh", nargs="*", type=int, default=[], help="numbers of fresh scenes")
    parser.add_argument("--frames", type=int, default=80, help="of the rendered and the fresh scenes")
    parser.add_argument("--trackers", nargs="*", default=["lucas-kanade"], help="NAME or NAME=WEIGHTS")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--plot", type=Path, default=ROOT / "out" / "points.png")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # PyTorch's, which is not loaded yet
    followers = {"plain OpenCV LK": plain}
    for name in options.trackers:
        followers[name] = named(name)

    def clips() -> Iterator[Clip]:
        folder = options.synth or options.shared / "data" / "tap" / "synth"
        if folder.exists():
            yield from shared_clips(folder, options.clips)
        else:
            print(f"({folder} is missing: its clips are skipped)\n")
        for seed in options.seeds:
            yield rendered_clip(demo_scene(seed, frames=options.frames), f"scene {seed}")
        for number in options.fresh:
            from training.scenes import fresh

            yield rendered_clip(fresh(number, options.frames), f"fresh {number}")

    print("| clip | tracker | delta_avg | at 256 | AJ | OA | lost, undeclared | frames/s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    curves: dict[str, list[PointScores]] = {name: [] for name in followers}
    for clip in clips():
        starts = np.unique(clip.query)
        starts = starts[starts < len(clip.frames) - 1]
        starts = np.concatenate([starts[:1], starts[1:][:: options.every]])
        used = np.isin(clip.query, starts)
        part = Clip(clip.name, clip.frames, clip.truth[used], clip.visible[used], clip.query[used])
        scored = np.arange(len(clip.frames)) > part.query[:, None]
        for name, follower in followers.items():
            xy, seen, speed = follow(part, follower, starts)
            result = score(part.truth, part.visible, part.query, xy, seen)
            small = score(part.truth, part.visible, part.query, xy, seen, part.size)
            curves[name].append(result)
            far = undeclared(part, xy, seen, scored)
            print(
                f"| {clip.name} ({len(part.query)} points) | {name} | {result.delta_avg:.3f} | {small.delta_avg:.3f} "
                f"| {result.aj:.3f} | {result.oa:.3f} | {100 * far:.1f} % | {speed:.0f} |",
                flush=True,
            )
    data = options.shared / "data"
    if (data / "tap" / "BADJA").exists():
        print(
            "\n| BADJA, PCK at 0.2 sqrt(mask area) | " + " | ".join(followers) + " |\n|---|" + "---|" * len(followers)
        )
        for name, results in badja(data, followers):
            print(f"| {name} | " + " | ".join(f"{results[f]:.3f}" for f in followers) + " |", flush=True)
    plot(curves, options.plot)
    return 0


def plot(curves: dict[str, list[PointScores]], path: Path) -> None:
    """Share of visible points within each threshold, averaged over the clips."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, results in curves.items():
        if results:
            axes.plot([1, 2, 4, 8, 16], np.mean([r.within for r in results], 0), marker="o", label=name)
    axes.set(xscale="log", ylim=(0, 1), xlabel="pixels", ylabel="share of visible points within")
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    print(f"\nplot: {path.name}")


if __name__ == "__main__":
    raise SystemExit(main())
