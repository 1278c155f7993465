"""How well masks are followed, by trackers of the suite and by flow alone, in one run: J, F, frames/s, both directions.

    python benchmarks/masks.py [--trackers NAME[=WEIGHTS] ...] [--fresh N ...] [--shared FOLDER] [--clips NAME ...] [--frames N]

Needs the evaluation data (../shared beside the checkout) for the table of its clips; without it, that part is skipped, saying
so. Fresh scenes are made here from numbers (`training.scenes`). J and F leave out the first frame, which is given, and the last, as DAVIS's tools do. "Flow alone" carries the mask
along OpenCV's DIS flow and does nothing else. Frames/s are of this machine as it is, and of one core when it has the core
to itself (processor seconds). The last table is the time per frame for 1, 3 and 8 objects in one 854x480 clip made here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.masks import score
from common.geometry.types import Mask
from common.trackers import registry
from common.trackers.masks import tiny
from common.tracking.contract import Prompt, Tracker
from common.video.contract import Image
from common.weights.options import EngineOptions

Bool = NDArray[np.bool_]
Follow = Callable[[Image], list[Bool]]
Begin = Callable[[Image, Sequence[Bool]], Follow]
ALONE = "flow alone"


@dataclass(frozen=True)
class Clip:
    """Pictures and label images (0 = background, k = object k). group: which kind of clip it is."""

    name: str
    group: str
    pictures: list[Image]
    labels: list[NDArray[np.uint8]]

    def reversed(self) -> Clip:
        return Clip(self.name + " (backward)", self.group, self.pictures[::-1], self.labels[::-1])


def clips(shared: Path, wanted: Sequence[str], frames: int) -> Iterator[Clip]:
    """DAVIS clips with one object and synthetic ones with several, one at a time."""
    davis = shared / "data" / "vos" / "DAVIS"
    for folder in sorted((davis / "Annotations" / "480p").glob("*")):
        if not wanted or folder.name in wanted:
            pictures = sorted((davis / "JPEGImages" / "480p" / folder.name).glob("*.jpg"))[:frames]
            labels = [(cv2.imread(str(p), 0) > 127).astype(np.uint8) for p in sorted(folder.glob("*.png"))[:frames]]
            yield Clip(folder.name, "DAVIS", [_rgb(cv2.imread(str(p))) for p in pictures], labels)
    for folder in sorted((shared / "data" / "tap" / "synth").glob("*")):
        if not wanted or folder.name in wanted:
            capture = cv2.VideoCapture(str(folder / "video.mp4"))
            labels = [cv2.imread(str(p), 0) for p in sorted((folder / "masks").glob("*.png"))[:frames]]
            yield Clip(folder.name, "synthetic", [_rgb(capture.read()[1]) for _ in labels], labels)


def scenes(numbers: Sequence[int], frames: int) -> Iterator[Clip]:
    """Fresh scenes, with what is to be seen of their target."""
    from training.scenes import TARGET, fresh

    for number in numbers:
        scene = fresh(number, frames)
        truth = [scene.truth(t)[TARGET].mask for t in range(frames)]
        labels = [np.zeros((scene.height, scene.width), np.uint8) if m is None else m.astype(np.uint8) for m in truth]
        yield Clip(scene.name, "fresh", [scene.render(t) for t in range(frames)], labels)


def _rgb(bgr: NDArray[np.uint8]) -> Image:
    return np.ascontiguousarray(bgr[..., ::-1])


def named(text: str) -> Begin:
    """A tracker of the suite or the experiment tiny_mask, NAME or NAME=WEIGHTS."""
    name, _, weights = text.partition("=")
    options = EngineOptions(weights=weights or None, device="cpu")
    return begin(tiny.make(name, options) if name == tiny.CARD.name else registry.make(name, options))


def begin(tracker: Tracker) -> Begin:
    """How to follow masks with it."""

    def start(image: Image, masks: Sequence[Bool]) -> Follow:
        run = tracker.start(image, [Prompt(str(i), Mask.from_array(m)) for i, m in enumerate(masks)])

        def follow(picture: Image) -> list[Bool]:
            (given,) = run.push(picture)
            empty = np.zeros(image.shape[:2], bool)
            return [p.geometry.to_array() if isinstance(p.geometry, Mask) else empty for p in given]

        return follow

    return start


def flow_alone(image: Image, masks: Sequence[Bool]) -> Follow:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before, held = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), list(masks)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)

    def follow(picture: Image) -> list[Bool]:
        nonlocal before, held
        now = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        back = flow.calc(now, before, None)
        x, y = xs + back[..., 0], ys + back[..., 1]
        held = [cv2.remap(m.astype(np.float32), x, y, cv2.INTER_LINEAR) > 0.5 for m in held]
        before = now
        return held

    return follow


@dataclass(frozen=True)
class Row:
    """Means over a clip's objects."""

    j: float
    f: float
    fps: float
    core_fps: float


def measure(clip: Clip, begin: Begin) -> Row:
    """Follow every object that the first frame shows with at least 20 pixels."""
    objects = [k for k in range(1, int(clip.labels[0].max()) + 1) if (clip.labels[0] == k).sum() >= 20]
    wall, core = time.perf_counter(), time.process_time()
    follow = begin(clip.pictures[0], [clip.labels[0] == k for k in objects])
    given = [[clip.labels[0] == k for k in objects]]
    given.extend(follow(picture) for picture in clip.pictures[1:])
    wall, core = time.perf_counter() - wall, time.process_time() - core
    scores = [
        score(((labels == k, frame[i]) for labels, frame in zip(clip.labels, given, strict=True)), "first-last")
        for i, k in enumerate(objects)
    ]
    steps = len(given) - 1
    return Row(float(np.mean([s.j for s in scores])), float(np.mean([s.f for s in scores])), steps / wall, steps / core)


def quality(some: Iterator[Clip], trackers: dict[str, Begin], out: Path) -> None:
    """Print the tables, write the plot."""
    rows: list[tuple[Clip, str, Row]] = []
    print("| clip | tracker | J | F | frames/s | frames/s per core |\n|---|---|---|---|---|---|")
    for forward in some:
        for clip in (forward, forward.reversed()):
            for name, tracker in trackers.items():
                rows.append((Clip(clip.name, clip.group, [], []), name, measure(clip, tracker)))
                print(_line(clip.name, name, rows[-1][2]), flush=True)
    for group in dict.fromkeys(clip.group for clip, _, _ in rows):
        for suffix, backward in (("", False), (" (backward)", True)):
            for name in trackers:
                own = [
                    r for c, n, r in rows if (c.group, n) == (group, name) and c.name.endswith("(backward)") == backward
                ]
                if own:
                    print(_line(f"**mean {group}{suffix}**", name, _mean(own)))
    if rows:
        _plot(rows, out / "masks.png")


def _line(clip: str, tracker: str, row: Row) -> str:
    return f"| {clip} | {tracker} | {row.j:.3f} | {row.f:.3f} | {row.fps:.1f} | {row.core_fps:.1f} |"


def _mean(rows: Sequence[Row]) -> Row:
    return Row(*(float(np.mean([getattr(r, name) for r in rows])) for name in ("j", "f", "fps", "core_fps")))


def _plot(rows: Sequence[tuple[Clip, str, Row]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names, clips_ = (list(dict.fromkeys(values)) for values in ([n for _, n, _ in rows], [c.name for c, _, _ in rows]))
    figure, axes = pyplot.subplots(figsize=(9, 0.35 * len(clips_) + 1.5))
    thick = 0.8 / len(names)
    for number, name in enumerate(names):
        places = np.arange(len(clips_)) + (number + 0.5) * thick - 0.4
        axes.barh(places, [r.j for _, n, r in rows if n == name], thick, label=name)
    axes.set_yticks(np.arange(len(clips_)), clips_)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("J (mean overlap)")
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"\nplot: {path}")


def time_by_objects(ours: Begin) -> None:
    """Print the time per frame for 1, 3 and 8 discs moving over a textured ground."""
    random = np.random.default_rng(0)
    big = cv2.resize(random.integers(0, 256, (60, 110, 3), np.uint8), (1000, 560), interpolation=cv2.INTER_CUBIC)
    colours = random.integers(0, 256, (8, 3))
    print("\n| objects | ms per frame | ms of one core per frame |")
    print("|---|---|---|")
    for count in (1, 3, 8):

        def scene(t: int, count: int = count) -> tuple[Image, list[Bool]]:
            picture = big[40 : 40 + 480, 2 * t : 2 * t + 854].copy()
            masks = []
            for k in range(count):
                mask = np.zeros((480, 854), np.uint8)
                cv2.circle(mask, (110 + 200 * (k % 4) + 2 * t, 140 + 200 * (k // 4) + t), 55, 1, -1)
                picture[mask > 0] = picture[mask > 0] // 2 + (colours[k] // 2).astype(np.uint8)
                masks.append(mask > 0)
            return picture, masks

        picture, masks = scene(0)
        follow = ours(picture, masks)
        pictures = [scene(t)[0] for t in range(1, 13)]
        follow(pictures[0])
        wall, core = time.perf_counter(), time.process_time()
        for picture in pictures[1:]:
            follow(picture)
        steps = (len(pictures) - 1) / 1000
        print(f"| {count} | {(time.perf_counter() - wall) / steps:.0f} | {(time.process_time() - core) / steps:.0f} |")


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=root.parent / "shared", help="folder of the evaluation data")
    parser.add_argument("--clips", nargs="*", default=[], help="only these")
    parser.add_argument("--frames", type=int, default=10_000, help="at most so many frames of each clip")
    parser.add_argument("--out", type=Path, default=root / "out", help="folder of the plot")
    parser.add_argument("--trackers", nargs="*", default=["flow"], help="NAME or NAME=WEIGHTS")
    parser.add_argument("--fresh", nargs="*", type=int, default=[], help="numbers of fresh scenes")
    parser.add_argument("--length", type=int, default=40, help="frames of a fresh scene")
    parser.add_argument(
        "--only-fresh", action="store_true", help="no clips of the evaluation data, no times by objects"
    )
    parser.add_argument("--threads", type=int, help="OpenCV's and PyTorch's")
    given = parser.parse_args()
    if given.threads is not None:
        cv2.setNumThreads(given.threads)
        os.environ["OMP_NUM_THREADS"] = str(given.threads)  # PyTorch's, which is not loaded yet
    trackers = {name: named(name) for name in given.trackers} | {ALONE: flow_alone}
    quality(scenes(given.fresh, given.length), trackers, given.out)
    if given.only_fresh:
        return
    if (given.shared / "data").is_dir():
        quality(clips(given.shared, given.clips, given.frames), trackers, given.out)
    else:
        print(f"Skipped the quality table: no evaluation data at {given.shared}.")
    time_by_objects(trackers[given.trackers[0]])


if __name__ == "__main__":
    main()
