"""How well the confidence on every figure foretells that it is wrong: AUROC and rank correlation of score and overlap.

    python benchmarks/confidence.py [--shared FOLDER] [--clips NAME ...] [--trackers NAME ...] [--plot FILE.png]

Needs the evaluation data (../shared beside the checkout); without it, it says so and ends. Trackers: OpenCV's MIL, a fixed
template and a box that never moves as strangers whose own score says nothing, and every built-in tracker of the geometry.
"Wrong" is an overlap (IoU) with the truth below 0.5. A column `own` shows what the tracker's own score foretells.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.errors import EngineUnavailable
from common.geometry.measures import bounds, iou
from common.geometry.types import Box, Geometry, Mask
from common.trackers import registry
from common.tracking.confidence import ConfidenceMeter
from common.tracking.contract import Prediction, Prompt
from common.video.contract import Image

WRONG = 0.5


@dataclass(frozen=True)
class Clip:
    """Pictures and the truth of one object, None where it is not seen."""

    name: str
    paths: list[Path]
    truth: list[Geometry | None]

    def image(self, n: int) -> Image:
        return np.ascontiguousarray(cv2.imread(str(self.paths[n]))[..., ::-1])


def clips(shared: Path) -> Iterator[Clip]:
    """Box and mask clips of the evaluation data."""
    data = shared / "data"
    for name in ("Biker", "Dudek20"):
        paths = sorted((data / "sot" / name / "img").glob("*.jpg"))
        text = (data / "sot" / name / "groundtruth_rect.txt").read_text().replace("\t", ",").split()
        rows = [[float(v) for v in line.split(",")] for line in text][: len(paths)]
        yield Clip(f"{name}/box", paths, [Box(np.array([x - 1, y - 1, x - 1 + w, y - 1 + h])) for x, y, w, h in rows])
    for folder in sorted((data / "vos" / "DAVIS" / "Annotations" / "480p").iterdir()):
        paths = sorted((data / "vos" / "DAVIS" / "JPEGImages" / "480p" / folder.name).glob("*.jpg"))
        masks = [Mask.from_array(cv2.imread(str(p), 0) > 127) for p in sorted(folder.glob("*.png"))]
        yield Clip(f"{folder.name}/mask", paths, list(masks))
        yield Clip(f"{folder.name}/box", paths, [bounds(m) for m in masks])


Follow = Callable[[Image], Prediction]


def still(image: Image, truth: Geometry) -> Follow:
    """Never moves."""
    return lambda _: Prediction("object", truth, 1.0, True)


def mil(image: Image, truth: Geometry) -> Follow:
    """OpenCV's MIL; boxes only."""
    assert isinstance(truth, Box)
    x1, y1, x2, y2 = (round(float(v)) for v in truth.xyxy)
    cv2.setRNGSeed(0)
    tracker = cv2.TrackerMIL.create()
    tracker.init(image, (x1, y1, x2 - x1, y2 - y1))

    def follow(image: Image) -> Prediction:
        _, (x, y, w, h) = tracker.update(image)
        return Prediction("object", Box(np.array([x, y, x + w, y + h])), 1.0, True)

    return follow


def template(image: Image, truth: Geometry) -> Follow:
    """The first picture of the object, looked for around its last place; boxes only."""
    assert isinstance(truth, Box)
    x1, y1, x2, y2 = (max(0, round(float(v))) for v in truth.xyxy)
    patch = image[y1:y2, x1:x2].copy()
    h, w = patch.shape[:2]
    at = [x1, y1]

    def follow(image: Image) -> Prediction:
        reach = max(w, h) // 2
        left, top = max(0, at[0] - reach), max(0, at[1] - reach)
        area = image[top : at[1] + h + reach, left : at[0] + w + reach]
        if area.shape[0] >= h and area.shape[1] >= w:
            _, _, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED))
            at[:] = [left + x, top + y]
        return Prediction("object", Box(np.array([at[0], at[1], at[0] + w, at[1] + h])), 1.0, True)

    return follow


def built_in(name: str) -> Callable[[Image, Geometry], Follow]:
    def begin(image: Image, truth: Geometry) -> Follow:
        run = registry.make(name).start(image, [Prompt("object", truth)])
        return lambda image: run.push(image)[0][0]

    return begin


@dataclass
class Row:
    """Score, the tracker's own score and true overlap of every frame of one tracking."""

    clip: str
    tracker: str
    scores: list[float]
    own: list[float]
    overlaps: list[float]
    seconds: float


def measure(clip: Clip, name: str, begin: Callable[[Image, Geometry], Follow], start: int, step: int) -> Row:
    truth = clip.truth[start]
    assert truth is not None
    image = clip.image(start)
    follow, meter = begin(image, truth), ConfidenceMeter()
    meter.start(image, [Prompt("object", truth)])
    row = Row(clip.name, name, [], [], [], 0.0)
    stop = len(clip.paths) if step > 0 else -1
    for n in range(start + step, stop, step):
        image = clip.image(n)
        prediction = follow(image)
        began = time.perf_counter()
        (scored,) = meter.update(image, [prediction])
        row.seconds += time.perf_counter() - began
        true = clip.truth[n]
        overlap = 0.0 if prediction.geometry is None or true is None else iou(prediction.geometry, true)
        row.scores.append(scored.score)
        row.own.append(prediction.score)
        row.overlaps.append(overlap)
    return row


def auroc(scores: np.ndarray, right: np.ndarray) -> float:
    """Chance that a right frame scores above a wrong one, ties half; nan when there are only right or wrong ones."""
    if right.all() or not right.any():
        return float("nan")
    order = np.argsort(np.argsort(scores, kind="stable"))
    _, inverse, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.bincount(inverse, order) / count)[inverse] + 1
    n = right.sum()
    return float((ranks[right].sum() - n * (n + 1) / 2) / (n * (~right).sum()))


def report(label: str, rows: list[Row]) -> None:
    scores, own, overlaps = (np.concatenate([getattr(r, f) for r in rows]) for f in ("scores", "own", "overlaps"))
    right = overlaps >= WRONG
    rank = spearmanr(scores, overlaps).statistic if np.ptp(overlaps) and np.ptp(scores) else float("nan")
    ms = 1000 * sum(r.seconds for r in rows) / max(len(scores), 1)
    print(
        f"{label:34} {len(scores):6} {100 * (1 - right.mean()):6.1f} {auroc(scores, right):7.3f} "
        f"{auroc(own, right):7.3f} {rank:8.3f} {np.mean(scores[right]) if right.any() else np.nan:8.2f} "
        f"{np.mean(scores[~right]) if not right.all() else np.nan:8.2f} {ms:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--clips", nargs="*", help="only these, such as dog/box")
    parser.add_argument("--trackers", nargs="*")
    parser.add_argument("--plot", type=Path, help="write score against overlap to this picture")
    options = parser.parse_args()
    if not (options.shared / "data").is_dir():
        print(f"skipped: no evaluation data in {options.shared}")
        return

    strangers = {"still": still, "mil": mil, "template": template}
    print(
        f"{'clip, tracker':34} {'frames':>6} {'wrong%':>6} {'AUROC':>7} {'own':>7} {'Spearman':>8} {'right':>8} {'wrong':>8} ms/frame"
    )
    everything: list[Row] = []
    for clip in clips(options.shared):
        if options.clips and clip.name not in options.clips:
            continue
        kind = clip.name.split("/")[1]
        contenders = dict(strangers) if kind == "box" else {"still": still}
        own = registry.DEFAULTS["box" if kind == "box" else "mask"]
        try:
            registry.make(own)
            contenders[own] = built_in(own)
        except (EngineUnavailable, ImportError):
            pass  # not in this checkout
        for name, begin in contenders.items():
            if options.trackers and name not in options.trackers:
                continue
            seen = [n for n, t in enumerate(clip.truth) if t is not None]
            rows = [measure(clip, name, begin, seen[0], 1), measure(clip, name, begin, seen[-1], -1)]
            report(f"{clip.name}, {name}", rows)
            everything += rows
    if everything:
        print()
        for name in dict.fromkeys(r.tracker for r in everything):
            report(f"all, {name}", [r for r in everything if r.tracker == name])
        report("all", everything)
        report("all but `still`", [r for r in everything if r.tracker != "still"] or everything)
    if options.plot and everything:
        from matplotlib import pyplot as plt

        for name in dict.fromkeys(r.tracker for r in everything):
            mine = [r for r in everything if r.tracker == name]
            overlaps, scores = (np.concatenate([getattr(r, f) for r in mine]) for f in ("overlaps", "scores"))
            plt.plot(overlaps, scores, ".", ms=3, label=name)
        plt.xlabel("overlap with the truth (IoU)")
        plt.ylabel("score")
        plt.legend()
        plt.savefig(options.plot, dpi=120)


if __name__ == "__main__":
    main()
