"""How well polygons are followed: the built-in point tracker against plain pyramidal Lucas-Kanade of OpenCV, in one run.

    python benchmarks/outlines.py [--shared FOLDER] [--scenes N ...] [--hard N ...] [--demo N ...] [--clips NAME ...]

Clips: scenes with exact truth rendered here for each seed - plain ones, hard ones (a post in front, bending, turning,
growing, noise, changing light) and the demonstration's - and DAVIS masks as outlines (../shared beside the checkout;
without it they are skipped, and it says so). All objects of a clip are followed together, from the first frame on. The score
is the overlap of the followed outline's area with the object's: in scenes of the whole object, also where something covers
it, while at least 30 % of it can be seen. `astray` is the share of these frames with an overlap under one half that the
tracker does not call hidden. Frames/s are per second of processor time.
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
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.demo import demo_scene
from common.evaluation.scenes import Scene, random_scene
from common.geometry.types import Points
from common.trackers import registry
from common.tracking.contract import Prompt
from common.video.contract import Image

ROOT = Path(__file__).resolve().parents[1]
Area = NDArray[np.bool_]
Outlines = dict[str, NDArray[np.float32]]
"""By object, vertices (n, 2)."""
SEEN = 0.3
"""Least visible share of an object in frames that count."""


@dataclass(frozen=True)
class Clip:
    """frames: pictures with the areas (h, w) that outlines should cover, by object. first: outlines in the first one."""

    name: str
    frames: Callable[[], Iterator[tuple[Image, dict[str, Area]]]]
    first: Outlines


def of_scene(name: str, scene: Scene) -> Clip:
    def frames() -> Iterator[tuple[Image, dict[str, Area]]]:
        for index in range(scene.frames):
            here = [o for o in scene.truth(index).objects if o.polygon is not None and o.visible_fraction >= SEEN]
            areas = {o.key: _area(o.polygon.xy, scene.width, scene.height) for o in here if o.polygon is not None}
            yield scene.render(index), areas

    drawn = scene.truth(0).objects
    return Clip(name, frames, {o.key: o.polygon.xy.astype(np.float32) for o in drawn if o.polygon is not None})


def of_davis(folder: Path, name: str) -> Clip:
    pictures = sorted((folder / "JPEGImages" / "480p" / name).glob("*.jpg"))
    masks = sorted((folder / "Annotations" / "480p" / name).glob("*.png"))

    def mask(path: Path) -> Area:
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 0

    def frames() -> Iterator[tuple[Image, dict[str, Area]]]:
        for picture, path in zip(pictures, masks, strict=True):
            yield cv2.cvtColor(np.asarray(cv2.imread(str(picture))), cv2.COLOR_BGR2RGB), {name: mask(path)}

    found = cv2.findContours(mask(masks[0]).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    outline = cv2.approxPolyDP(max(found, key=cv2.contourArea), 3.0, True)[:, 0].astype(np.float32)
    return Clip(name, frames, {name: outline})


Follower = Callable[[Image], dict[str, tuple[NDArray[np.float32], bool]]]
"""The next picture -> vertices and whether the object is seen, by object."""


def ours(first: Image, outlines: Outlines) -> Follower:
    prompts = [
        Prompt(key, Points(xy, edges=tuple((i, (i + 1) % len(xy)) for i in range(len(xy)))))
        for key, xy in outlines.items()
    ]
    run = registry.make("lucas-kanade").start(first, prompts)

    def push(image: Image) -> dict[str, tuple[NDArray[np.float32], bool]]:
        (found,) = run.push(image)
        return {p.key: (p.geometry.xy, p.visible) for p in found if isinstance(p.geometry, Points)}

    return push


def plain(first: Image, outlines: Outlines) -> Follower:
    """Each vertex by itself, with OpenCV's defaults; one that is not found stays, an object without any is hidden."""
    before = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY)
    now = {key: xy.copy() for key, xy in outlines.items()}

    def push(image: Image) -> dict[str, tuple[NDArray[np.float32], bool]]:
        nonlocal before
        after = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        given = {}
        for key, xy in now.items():
            there, ok, _ = cv2.calcOpticalFlowPyrLK(before, after, xy[:, None], None)  # type: ignore[call-overload]
            now[key] = np.where(ok > 0, there[:, 0], xy).astype(np.float32)
            given[key] = now[key], bool(ok.any())
        before = after
        return given

    return push


def measure(clip: Clip, start: Callable[[Image, Outlines], Follower]) -> tuple[NDArray[np.float64], int, float]:
    """Overlaps of all objects and frames, how many went astray, frames per second of processor time."""
    overlaps: list[float] = []
    astray, frames, seconds = 0, 0, 0.0
    follow: Follower | None = None
    for image, areas in clip.frames():
        before = time.process_time()
        if follow is None:
            follow = start(image, clip.first)
            continue
        found = follow(image)
        seconds += time.process_time() - before
        frames += 1
        for key, area in areas.items():
            if key in found:
                xy, shown = found[key]
                mine = _area(xy, area.shape[1], area.shape[0])
                overlaps.append(float((mine & area).sum() / max((mine | area).sum(), 1)))
                astray += shown and overlaps[-1] < 0.5
    return np.array(overlaps), astray, frames / max(seconds, 1e-9)


def _area(xy: NDArray[np.floating], width: int, height: int) -> Area:
    area = np.zeros((height, width), np.uint8)
    corners = np.clip(xy, -4 * max(width, height), 5 * max(width, height))
    cv2.fillPoly(area, [np.rint(corners * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return area > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--scenes", type=int, nargs="*", default=[200, 201, 202, 203, 204])
    parser.add_argument("--hard", type=int, nargs="*", default=[210, 211, 212, 213, 214])
    parser.add_argument("--demo", type=int, nargs="*", default=[7, 20, 21])
    parser.add_argument("--clips", nargs="*", default=["blackswan", "bmx-trees", "camel", "dog"])
    args = parser.parse_args()
    cv2.setNumThreads(1)
    hard = {"occluder": True, "light": 0.1, "noise": 2.0, "ripple": 2.0, "turn": 0.4, "grow": 0.2}
    groups = {
        "scenes": [of_scene(f"scene {n}", random_scene(n, 100)) for n in args.scenes],
        "hard scenes": [of_scene(f"hard {n}", random_scene(n, 100, 480, 360, 2, **hard)) for n in args.hard],  # type: ignore[arg-type]
        "demonstration": [of_scene(f"demo {n}", demo_scene(n)) for n in args.demo],
    }
    davis = args.shared / "data" / "vos" / "DAVIS"
    if davis.is_dir():
        groups |= {name: [of_davis(davis, name)] for name in args.clips}
    elif args.clips:
        print("no DAVIS clips: ../shared/data is not beside the checkout")
    print("| clips | objects | vertices | plain LK: overlap / astray | ours: overlap / astray | frames/s, ours |")
    print("|---|---|---|---|---|---|")
    for name, clips in groups.items():
        cells, speed = [], 0.0
        for start in (plain, ours):
            done = [measure(clip, start) for clip in clips]
            all_ = np.concatenate([d[0] for d in done])
            cells.append(f"{all_.mean():.3f} / {100 * sum(d[1] for d in done) / len(all_):.1f} %")
            speed = float(np.mean([d[2] for d in done]))
        outlines = [xy for clip in clips for xy in clip.first.values()]
        vertices = sorted({len(xy) for xy in outlines})
        count = f"{vertices[0]}" if len(vertices) == 1 else f"{vertices[0]}-{vertices[-1]}"
        print(f"| {name} | {len(outlines)} | {count} | {cells[0]} | {cells[1]} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
