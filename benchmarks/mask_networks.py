"""What the mask networks take: peak memory by the number of frames, seconds per frame by the number of objects.

    python benchmarks/mask_networks.py [--weights seeded|FILE] [--device auto|cpu|cuda] [--tracker NAME ...]
        [--size WxH] [--frames 50 200 800] [--speed-size WxH] [--objects 1 3 8] [--steps N] [--picture SIDE]
        [--xmem FOLDER] [--sam2]

Seeded weights (the default) cost what trained ones do and need no download. Each measurement is a process of its own:
memory is the largest resident set while tracking up to each number of frames of one run, speed the mean over whole periods of
memorising, after the first of them. --xmem takes a checkout of github.com/hkchengrex/XMem, --sam2 the package sam2: they are
timed beside ours, frame by frame in turn in the same process, and the package's memory is measured as well, of a clip of each
length. --picture brings SAM 2's square picture from 1024 to fewer pixels, for machines without a GPU. Prints two tables, writes
out/benchmarks/mask_networks.png and exits with 1 when our memory grows by more than 2 %.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import mask_references
from benchmarks.mask_references import PERIOD, Step
from common.evaluation.scenes import random_scene
from common.geometry.types import Mask
from common.tracking.contract import Prompt
from common.video.contract import Image

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "benchmarks"
ALLOWED_GROWTH = 0.02
ALLOWED_THREE = 1.5
ALLOWED_THREE_SAM2 = 1.8
_CLEAR = Path("/proc/self/clear_refs")

Begin = Callable[[Sequence[Image], Sequence[Mask]], Step]
"""Pictures to and fro, and what is drawn on the first of them."""


def scene(width: int, height: int, objects: int) -> tuple[list[Image], list[Mask]]:
    """Pictures to and fro, and the objects' masks on the first."""
    made = random_scene(7, 30, width, height, objects, size=0.35, speed=1.5)
    images = list(made.source().stream(0, made.frames))
    masks = [Mask.from_array(o.mask) for o in made.truth(0).objects]
    return [*images, *images[-2:0:-1]], [mask for mask in masks if mask.area]


def ours(name: str, given: argparse.Namespace, images: Sequence[Image], masks: Sequence[Mask]) -> Step:
    from common.trackers.registry import make
    from common.weights.options import EngineOptions

    tracker: Any = make(name, EngineOptions(given.weights, given.device))
    if given.picture and hasattr(tracker, "sizes"):
        from common.networks.sam2 import build, edgetam, sam3

        published = {"sam2.1-tiny": build.TINY, "sam2.1-small": build.SMALL, "sam2.1-base-plus": build.BASE_PLUS}
        published |= {"sam2.1-large": build.LARGE, "edgetam": edgetam.Sizes(), "sam3": sam3.Sizes()}
        tracker.sizes = replace(published[name], image=given.picture)
    step: Step = tracker.start(images[0], [Prompt(str(i), mask) for i, mask in enumerate(masks)]).push
    return step


def theirs(name: str, given: argparse.Namespace, frames: int) -> Begin | None:
    """The official implementation, where it was asked for. frames: of the clip."""
    if name.startswith("xmem") and given.xmem:
        return lambda images, masks: mask_references.xmem(given.xmem, given.device, images[0], masks)
    if name in mask_references.SAM2_CONFIGS and given.sam2:
        side = given.picture or 1024
        return lambda images, masks: mask_references.sam2(name, side, given.device, images, frames, masks)
    return None


def forget_peak() -> None:
    """Reading weights takes more for a moment than tracking does, which would hide what tracking takes."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def peak_mib() -> float:
    """Largest resident set since `forget_peak`; since the start of the process where the system cannot forget."""
    if _CLEAR.exists():
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure_memory(begin: Begin, size: Sequence[int], marks: Sequence[int]) -> Any:
    """Peak resident memory in MiB (and the GPU's) up to each number of frames."""
    images, masks = scene(*size, 1)
    step = begin(images, masks)
    forget_peak()
    rows = []
    for number, image in enumerate(islice(cycle(images), 1, max(marks)), 2):
        step(image)
        if number in marks:
            rows.append([number, peak_mib(), gpu_mib()])
    return rows


def gpu_mib() -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0


def measure_speed(begins: Sequence[Begin], size: Sequence[int], objects: int, steps: int) -> Any:
    """Wall and processor seconds per frame of each, in turn on the same machine at the same time."""
    images, masks = scene(*size, objects)
    runs = [begin(images, masks) for begin in begins]
    spent = np.zeros((len(runs), 2))
    for number, image in enumerate(islice(cycle(images), 1, 1 + PERIOD + steps)):
        for run, total in zip(runs, spent, strict=True):
            wall, core = time.perf_counter(), time.process_time()
            run(image)
            if number >= PERIOD:
                total += time.perf_counter() - wall, time.process_time() - core
    return (spent / steps).tolist()


def child(arguments: Sequence[str]) -> Any:
    """One measurement in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def plot(memory: dict[str, Any], speed: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, rows in memory.items():
        left.plot([r[0] for r in rows], [r[1] for r in rows], "o-", label=name)
    for name, rows in speed.items():
        right.plot([r[0] for r in rows], [r[1] for r in rows], "o-", label=name)
    left.set(xlabel="frames", ylabel="peak resident memory, MiB", ylim=(0, None), title="Memory by length")
    right.set(xlabel="objects", ylabel="processor seconds per frame", ylim=(0, None), title="Time by objects")
    for axes, drawn in ((left, memory), (right, speed)):
        if drawn:
            axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="seeded")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--tracker", action="append", help="xmem, cutie, sam2.1-tiny, edgetam ...; repeat for more")
    parser.add_argument("--size", default="96x72", help="pictures of the memory table")
    parser.add_argument("--frames", type=int, nargs="*", default=[50, 200, 800], help="none = no memory table")
    parser.add_argument("--speed-size", default="320x240")
    parser.add_argument("--objects", type=int, nargs="*", default=[1, 3, 8], help="none = no table of speed")
    parser.add_argument("--steps", type=int, default=2 * PERIOD, help="frames timed, in whole periods of 5")
    parser.add_argument("--picture", type=int, help="side of SAM 2's square picture, a multiple of 64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--xmem", help="checkout of github.com/hkchengrex/XMem")
    parser.add_argument("--sam2", action="store_true", help="the package sam2 beside SAM 2")
    parser.add_argument("--only", choices=("memory", "their memory", "speed"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given)))
        return 0
    return report(given)


def measure(given: argparse.Namespace) -> Any:
    """In the child: one measurement."""
    import torch

    torch.set_num_threads(given.threads)
    name, size = (
        given.tracker[0],
        [int(v) for v in (given.speed_size if given.only == "speed" else given.size).split("x")],
    )

    def begin(images: Sequence[Image], masks: Sequence[Mask]) -> Step:
        return ours(name, given, images, masks)

    if given.only == "memory":
        return measure_memory(begin, size, given.frames)
    frames = max(given.frames) if given.only == "their memory" else 1 + PERIOD + given.steps
    official = theirs(name, given, frames)
    if given.only == "their memory":
        return None if official is None else measure_memory(official, size, given.frames)
    return measure_speed([begin, official] if official else [begin], size, given.objects[0], given.steps)


def report(given: argparse.Namespace) -> int:
    names = given.tracker or ["xmem", "cutie"]
    common = ["--weights", given.weights, "--device", given.device, "--threads", str(given.threads)]
    common += ["--size", given.size, "--speed-size", given.speed_size, "--steps", str(given.steps)]
    common += ["--picture", str(given.picture)] if given.picture else []
    common += ["--xmem", given.xmem] if given.xmem else []
    common += ["--sam2"] if given.sam2 else []
    memory = memory_table(names, given.frames, given.size, common) if given.frames else {}
    speed = speed_table(names, given.objects, given.speed_size, common) if given.objects else {}
    plot(memory, speed, OUT / "mask_networks.png")
    grown = [name for name in names if name in memory and growth(memory[name]) > ALLOWED_GROWTH]
    print(
        f"{'FAIL' if grown else 'PASS'}: memory flat within {ALLOWED_GROWTH:.0%}; grown: {', '.join(grown) or 'none'}."
    )
    print(f"Plot: {OUT.relative_to(ROOT)}/mask_networks.png")
    return int(bool(grown))


def growth(rows: Sequence[Sequence[float]]) -> float:
    return rows[-1][1] / rows[0][1] - 1


def memory_table(names: Sequence[str], marks: Sequence[int], size: str, common: Sequence[str]) -> dict[str, Any]:
    print(f"Peak MiB, one object, {size}\n\n| tracker |" + "".join(f" {n} frames |" for n in marks), end="")
    print(" change | on the GPU |\n|---|" + "---|" * (len(marks) + 2))
    memory: dict[str, Any] = {}
    for name in names:
        one = [*common, "--tracker", name, "--frames"]
        memory[name] = child([*one, *map(str, marks), "--only", "memory"])
        # the official predictor reads its clip whole: a process for each length
        official = [child([*one, str(mark), "--only", "their memory"]) for mark in marks]
        if all(official):
            memory[f"{name}, official"] = [rows[-1] for rows in official]
        for who in (name, f"{name}, official"):
            if who in memory:
                cells = "".join(f" {row[1]:.1f} |" for row in memory[who])
                print(f"| {who} |{cells} {growth(memory[who]):+.1%} | {memory[who][-1][2]:.0f} |", flush=True)
    return memory


def speed_table(names: Sequence[str], counts: Sequence[int], size: str, common: Sequence[str]) -> dict[str, Any]:
    print(f"\nSeconds per frame (processor seconds in brackets), {size}\n\n| tracker |", end="")
    print("".join(f" {n} objects |" for n in counts), "times one object |\n|---|" + "---|" * (len(counts) + 1))
    speed: dict[str, Any] = {}
    for name in names:
        for count in counts:
            result = child([*common, "--tracker", name, "--objects", str(count), "--only", "speed"])
            for who, (wall, core) in zip((name, f"{name}, official"), result, strict=False):
                speed.setdefault(who, []).append([count, core, wall])
    for who, rows in speed.items():
        cells = "".join(f" {wall:.2f} ({core:.2f}) |" for _, core, wall in rows)
        print(f"| {who} |{cells} {', '.join(f'{row[1] / rows[0][1]:.2f}' for row in rows)} |")
    for name in names:
        official = speed.get(f"{name}, official", [])
        if official:
            ratios = [own[1] / other[1] for own, other in zip(speed[name], official, strict=True)]
            print(f"{name}: processor time ours / official {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
        by_count = {count: core for count, core, _ in speed[name]}
        if {1, 3} <= by_count.keys():
            goal, ratio = ALLOWED_THREE_SAM2 if name.startswith("sam2") else ALLOWED_THREE, by_count[3] / by_count[1]
            verdict = "reached" if ratio < goal else "missed"
            print(f"{name}: three objects cost {ratio:.2f} times one (goal {goal}: {verdict})")
    return speed


if __name__ == "__main__":
    sys.exit(main())
