"""What XMem and Cutie take: peak memory by the number of frames, seconds per frame by the number of objects.

    python benchmarks/mask_networks.py [--weights seeded|FILE] [--device auto|cpu|cuda] [--tracker NAME ...]
        [--size WxH] [--frames 50 200 800] [--speed-size WxH] [--objects 1 3 8] [--steps N] [--reference FOLDER]

Seeded weights (the default) cost what trained ones do and need no download. Each measurement is a process of its own:
memory is the largest resident set while tracking up to each number of frames of one run, speed the mean over whole periods of
memorising, after the first of them. --reference takes a checkout of github.com/hkchengrex/XMem and times it beside ours, in
turn, with the same weights. Prints two tables, writes out/benchmarks/mask_networks.png and exits with 1 when memory grows by
more than 2 %.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.scenes import random_scene
from common.geometry.types import Mask
from common.tracking.contract import Prompt
from common.video.contract import Image

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "benchmarks"
ALLOWED_GROWTH = 0.02
ALLOWED_THREE = 1.5
PERIOD = 5
"""Frames between two that are memorised: only whole periods can be compared."""
REFERENCE = "reference"
_CLEAR = Path("/proc/self/clear_refs")

Step = Callable[[Image], object]


def scene(width: int, height: int, objects: int) -> tuple[list[Image], list[Mask]]:
    """Pictures to and fro, and the objects' masks on the first."""
    made = random_scene(7, 30, width, height, objects, size=0.35, speed=1.5)
    images = list(made.source().stream(0, made.frames))
    masks = [Mask.from_array(o.mask) for o in made.truth(0).objects]
    return [*images, *images[-2:0:-1]], [mask for mask in masks if mask.area]


def ours(name: str, weights: str, device: str, image: Image, masks: Sequence[Mask]) -> Step:
    from common.trackers.registry import make
    from common.weights.options import EngineOptions

    tracker = make(name, EngineOptions(weights, device))  # type: ignore[arg-type]
    return tracker.start(image, [Prompt(str(i), mask) for i, mask in enumerate(masks)]).push


def reference(folder: str, device: str, image: Image, masks: Sequence[Mask]) -> Step:
    """The official implementation of XMem on the same pictures, with the same seeded weights."""
    sys.path.insert(0, folder)
    import torch
    from inference.inference_core import InferenceCore
    from model import modules, network

    from common.networks.device import resolve_device
    from common.networks.seeding import fill
    from common.networks.xmem.pictures import Frame

    build = {name: getattr(modules.resnet, name) for name in ("resnet18", "resnet50")}
    modules.resnet.resnet18 = lambda pretrained=True, extra_dim=0: build["resnet18"](False, extra_dim)
    modules.resnet.resnet50 = lambda pretrained=True, extra_dim=0: build["resnet50"](False, extra_dim)
    where = resolve_device(device)
    settings: dict[str, Any] = {
        "mem_every": PERIOD,
        "deep_update_every": -1,
        "enable_long_term": True,
        "enable_long_term_count_usage": True,
        "top_k": 30,
        "max_mid_term_frames": 10,
        "min_mid_term_frames": 5,
        "num_prototypes": 128,
        "max_long_term_elements": 10_000,
        "hidden_dim": 64,
        "key_dim": 64,
        "value_dim": 512,
    }
    net = network.XMem(settings).eval().to(where)
    fill(net)
    core = InferenceCore(net, settings)
    core.set_all_labels(list(range(1, len(masks) + 1)))
    frame = Frame(image.shape[:2], image.shape[:2])  # type: ignore[arg-type]
    amp = torch.autocast("cuda", enabled=where.type == "cuda")

    def step(picture: Image, *labels: object) -> object:
        with torch.no_grad(), amp:
            prepared = frame.unpad(frame.picture(torch.from_numpy(np.array(picture)), where)[0])
            return core.step(prepared, *labels).argmax(0).cpu().numpy()

    step(image, torch.from_numpy(np.stack([m.to_array() for m in masks])).float().to(where), core.all_labels)
    return step


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


def measure_memory(begin: Callable[[Image, Sequence[Mask]], Step], size: Sequence[int], marks: Sequence[int]) -> Any:
    """Peak resident memory in MiB (and the GPU's) up to each number of frames."""
    images, masks = scene(*size, 1)
    step = begin(images[0], masks)
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


def measure_speed(begins: Sequence[Callable[..., Step]], size: Sequence[int], objects: int, steps: int) -> Any:
    """Wall and processor seconds per frame of each, in turn on the same machine at the same time."""
    images, masks = scene(*size, objects)
    runs = [begin(images[0], masks) for begin in begins]
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
    left.legend()
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="seeded")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--tracker", action="append", help="xmem or cutie; repeat for more")
    parser.add_argument("--size", default="96x72", help="pictures of the memory table")
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 200, 800])
    parser.add_argument("--speed-size", default="320x240")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--steps", type=int, default=2 * PERIOD, help="frames timed, in whole periods of 5")
    parser.add_argument("--reference", help="checkout of github.com/hkchengrex/XMem, to be timed beside ours")
    parser.add_argument("--only", choices=("memory", "speed"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.tracker or ["xmem", "cutie"]
    if given.only:
        begin = [lambda i, m: ours(names[0], given.weights, given.device, i, m)]
        if given.reference:
            begin.append(lambda i, m: reference(given.reference, given.device, i, m))
        size = [int(v) for v in given.size.split("x")]
        if given.only == "memory":
            print(json.dumps(measure_memory(begin[0], size, given.frames)))
        else:
            print(json.dumps(measure_speed(begin, size, given.objects[0], given.steps)))
        return 0
    return report(names, given)


def report(names: Sequence[str], given: argparse.Namespace) -> int:
    common = ["--weights", given.weights, "--device", given.device]
    memory: dict[str, Any] = {}
    print(
        f"Peak MiB, one object, {given.size}\n\n| tracker |" + "".join(f" {n} frames |" for n in given.frames), end=""
    )
    print(" change | on the GPU |\n|---|" + "---|" * (len(given.frames) + 2))
    for name in names:
        frames = ["--frames", *map(str, given.frames)]
        rows = memory[name] = child([*common, "--only", "memory", "--tracker", name, "--size", given.size, *frames])
        change = rows[-1][1] / rows[0][1] - 1
        cells = "".join(f" {row[1]:.1f} |" for row in rows)
        print(f"| {name} |{cells} {change:+.1%} | {rows[-1][2]:.0f} |", flush=True)
    grown = [name for name, rows in memory.items() if rows[-1][1] / rows[0][1] - 1 > ALLOWED_GROWTH]
    print(f"\nSeconds per frame (processor seconds in brackets), {given.speed_size}\n\n| tracker |", end="")
    print(
        "".join(f" {n} objects |" for n in given.objects),
        "times one object |\n|---|" + "---|" * (len(given.objects) + 1),
    )
    speed: dict[str, Any] = {}
    for name in names:
        for count in given.objects:
            extra = ["--reference", given.reference] if given.reference and name == "xmem" else []
            what = ["--size", given.speed_size, "--objects", str(count), "--steps", str(given.steps), *extra]
            result = child([*common, "--only", "speed", "--tracker", name, *what])
            for who, (wall, core) in zip((name, REFERENCE), result, strict=False):
                speed.setdefault(who, []).append([count, core, wall])
    for name, rows in speed.items():
        cells = "".join(f" {wall:.2f} ({core:.2f}) |" for _, core, wall in rows)
        print(f"| {name} |{cells} {', '.join(f'{row[1] / rows[0][1]:.2f}' for row in rows)} |")
    for name, rows in speed.items():
        by_count = {count: core for count, core, _ in rows}
        if name != REFERENCE and {1, 3} <= by_count.keys():
            ratio = by_count[3] / by_count[1]
            verdict = "reached" if ratio < ALLOWED_THREE else "missed"
            print(f"{name}: three objects cost {ratio:.2f} times one (goal {ALLOWED_THREE}: {verdict})")
    plot(memory, speed, OUT / "mask_networks.png")
    print(
        f"{'FAIL' if grown else 'PASS'}: memory flat within {ALLOWED_GROWTH:.0%}{': not ' + ', '.join(grown) if grown else ''}."
    )
    print(f"Plot: {OUT.relative_to(ROOT)}/mask_networks.png")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
