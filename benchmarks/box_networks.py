"""The box networks: time per frame at 1, 5 and 20 objects, flat memory, and NanoTrack beside OpenCV's own loop.

Weights are made from the parameters' names, so nothing is downloaded and positions mean nothing: time and memory do not
depend on them. The reference column is what the authors' code took on the machine that the specification was written on
(2 shared CPU cores under a load of 8 to 15, one object): an upper bound, not a race on equal terms.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clips import box_clips, missing
from common.evaluation.boxes import score
from common.geometry.types import Box
from common.trackers import registry
from common.tracking.contract import Prompt, track
from common.video.contract import Image
from common.weights.options import EngineOptions

SEEDED = EngineOptions(weights="seeded", device="auto")
REFERENCE = {
    "mixformerv2-s": "390 (fastest 220)",
    "mixformerv2-b": "about 1300",
    "mixformer-vit-b": "3500 (fastest 1600)",
    "mixformer": "about 24000",
    "transt": "2500",
    "mcitrack-t224": "700-1200",
    "mcitrack": "3800",
}
"""Milliseconds per frame, median."""


def pictures(count: int) -> list[Image]:
    """A textured 854x480 clip that slides by a pixel a frame, to and fro."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (60, 110, 3)).astype(np.uint8), (900, 520), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(ground[t : t + 480, t : t + 854]) for t in range(min(count, 40))]


def prompts(count: int) -> list[Prompt]:
    """Boxes of 70x60 pixels on a grid."""
    places = [(60.0 + 150 * (k % 5), 50.0 + 100 * (k // 5)) for k in range(count)]
    return [Prompt(str(k), Box(np.array([x, y, x + 70, y + 60], np.float32))) for k, (x, y) in enumerate(places)]


def crowd(names: Sequence[str], counts: Sequence[int], frames: int) -> None:
    """Time per frame against the number of objects: of the fastest frame, and of the processor rather than the clock's
    (which stands in brackets), so that a busy machine disturbs least.
    """
    print(f"\nprocessor milliseconds per frame (by the clock), fastest of {frames}; {torch.get_num_threads()} threads")
    print("| tracker | " + " | ".join(f"{n} objects" for n in counts) + " | last : first | reference, 1 object |")
    print("|---" * (len(counts) + 3) + "|")
    clip = pictures(frames + 1)
    for name in names:
        tracker = registry.make(name, SEEDED)
        cells = []
        for count in counts:
            run = tracker.start(clip[0], prompts(count))
            taken = []
            for picture in clip[1:]:
                start, used = time.perf_counter(), time.process_time()
                run.push(picture)
                taken.append((time.process_time() - used, time.perf_counter() - start))
            cells.append(np.min(taken, 0) * 1000)
        row = " | ".join(f"{cpu:.0f} ({wall:.0f})" for cpu, wall in cells)
        print(f"| {name} | {row} | {cells[-1][0] / cells[0][0]:.1f} | {REFERENCE.get(name, '-')} |", flush=True)


def memory(name: str, frames: int) -> None:
    """Resident memory and size of the snapshot as frames go by, one object."""
    clip = pictures(40)
    cycle = [*clip, *clip[-2:0:-1]]
    run = registry.make(name, SEEDED).start(clip[0], prompts(1))
    process = psutil.Process()
    print(f"\n{name}, one object\n| frames | resident MiB | snapshot MiB |\n|---|---|---|")
    for number in range(1, frames + 1):
        run.push(cycle[number % len(cycle)])
        if number in (20, 100, 300, 1000, 3000) or number == frames:
            gc.collect()
            resident, state = process.memory_info().rss / 2**20, len(run.save()) / 2**20
            print(f"| {number} | {resident:.1f} | {state:.2f} |", flush=True)


def nanotrack(folder: Path, frames: int) -> None:
    """Overlap and speed on the shared clips, ours and OpenCV's class by itself."""
    tracker = registry.make("nanotrack", EngineOptions(weights=str(folder)))
    print("\nNanoTrack: mean overlap, frames/s\n| clip | ours | | OpenCV's loop | |\n|---|---|---|---|---|")
    sums = []
    for clip in box_clips():
        seen = np.flatnonzero(np.isfinite(clip.boxes).all(1))
        images = list(clip.source.stream(int(seen[0]), min(clip.source.info.frames, int(seen[0]) + frames)))
        truth = np.asarray(clip.boxes, np.float64)[seen[0] :][: len(images)]
        x, y, w, h = truth[0]
        start = time.perf_counter()
        found = list(track(tracker, iter(images), [Prompt("a", Box(np.array([x, y, x + w, y + h], np.float32)))]))
        ours_s = time.perf_counter() - start
        rows = []
        for (prediction,) in found[1:]:
            box = prediction.geometry
            rows.append([*box.xyxy[:2], *(box.xyxy[2:] - box.xyxy[:2])] if isinstance(box, Box) else [np.nan] * 4)
        start = time.perf_counter()
        theirs = _opencv(folder, images, (x, y, w, h))
        theirs_s = time.perf_counter() - start
        overlaps = [score(truth[1:], np.array(boxes, np.float64)).overlap for boxes in (rows, theirs)]
        rates = [len(images) / ours_s, len(images) / theirs_s]
        sums.append([*overlaps, *rates])
        print(f"| {clip.name} | {overlaps[0]:.3f} | {rates[0]:.0f} | {overlaps[1]:.3f} | {rates[1]:.0f} |", flush=True)
    if sums:
        a, b, c, d = np.mean(sums, 0)
        print(f"| mean | {a:.3f} | {c:.0f} | {b:.3f} | {d:.0f} |")


def _opencv(folder: Path, images: Sequence[Image], box: tuple[float, ...]) -> list[list[int]]:
    parameters = cv2.TrackerNano.Params()
    parameters.backbone, parameters.neckhead = (
        str(folder / f"nanotrack_{part}_sim.onnx") for part in ("backbone", "head")
    )
    tracker = cv2.TrackerNano.create(parameters)
    tracker.init(np.ascontiguousarray(images[0][..., ::-1]), tuple(round(v) for v in box))
    return [list(tracker.update(np.ascontiguousarray(image[..., ::-1]))[1]) for image in images[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Box networks: time, memory, NanoTrack's overlap.")
    parser.add_argument("--trackers", nargs="*", default=["mixformerv2-s", "mixformerv2-b", "transt", "mcitrack-t224"])
    parser.add_argument("--counts", nargs="*", type=int, default=[1, 5, 20])
    parser.add_argument("--frames", type=int, default=5, help="frames per measurement of time")
    parser.add_argument("--memory", default="mixformerv2-s", help="tracker whose memory is watched")
    parser.add_argument("--memory-frames", type=int, default=3000)
    parser.add_argument("--nanotrack", type=Path, help="folder of NanoTrack's two files")
    parser.add_argument("--nanotrack-frames", type=int, default=10**9, help="most frames of a clip")
    parser.add_argument("--threads", type=int, help="PyTorch's and OpenCV's threads")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    crowd(args.trackers, args.counts, args.frames)
    if args.memory_frames:
        memory(args.memory, args.memory_frames)
    if args.nanotrack and not missing():
        nanotrack(args.nanotrack, args.nanotrack_frames)


if __name__ == "__main__":
    main()
