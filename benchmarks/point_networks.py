"""Memory and time of the point networks against the length of the clip, with seeded weights: no download, any machine.

Every network runs in a process of its own over one clip, which is played to and fro; at each length its peak resident
memory and the seconds per frame since the length before are noted. 20 points in one object of loose points. `--size quarter` takes
the quarter of the network's usual picture at which the figures of the published code (`REFERENCE`) were taken, on
one thread of a CPU, with random weights and the same number of points. Prints a table, writes
out/benchmarks/point_networks.png, and exits with 1 when the peak grows by more than `ALLOWED` from the second length to the last. Windowed networks work
in bursts: their seconds per frame are even over lengths that are many windows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.scenes import random_scene
from common.geometry.types import Points
from common.tracking.contract import Prompt, Tracker
from common.video.contract import Image

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "benchmarks"
ALLOWED = 0.05
POINTS = 20

REFERENCE = {
    "bootstapir-online": {20: (0.63, 1113), 40: (0.68, 1122), 80: (0.59, 1126)},
    "bootstapir": {20: (0.18, 1172), 40: (0.18, 1293), 80: (0.19, 1505)},
    "cotracker3-online": {20: (0.63, 1347), 40: (0.58, 1390), 80: (0.66, 1407)},
    "cotracker3-offline": {20: (0.51, 1414), 40: (0.56, 1784), 80: (0.59, 2694)},
    "tapnextpp": {8: (1.5, 2403), 24: (1.5, 2403)},
    "pips": {20: (0.17, 1146), 40: (0.18, 1169), 80: (0.16, 1175)},
    "pips2": {20: (0.20, 1276), 40: (0.21, 1706), 80: (0.19, 2568)},
}
"""The published code at a quarter of the usual picture: frames -> CPU seconds per frame, peak MB. One thread; 20 points (PIPs
1), 6 iterations (PIPs++ 4)."""


def quarter(name: str) -> Tracker:
    """The tracker with a quarter of its usual picture."""
    from common.networks.cotracker import network as cotracker_network
    from common.networks.pips import network as pips_network
    from common.networks.pips import plusplus
    from common.networks.tapir import network as tapir_network
    from common.networks.tapnext import network as tapnext_network
    from common.trackers.points import cotracker, cotracker_run, pips, pips_run, tapir, tapir_run, tapnext, tapnext_run
    from common.trackers.points.network_tracker import NetworkTracker
    from common.weights.loading import load
    from common.weights.options import SEEDED, EngineOptions

    options = EngineOptions(weights=SEEDED, device="cpu")
    if name in tapir.VARIANTS:
        variant = tapir.VARIANTS[name]
        config = tapir_network.Config(variant.causal, variant.boots, 1 if variant.boots else 0, initial=(128, 128))
        net = tapir_network.Tapir(config)
        load(net, name, options)
        return NetworkTracker(tapir.card(name), lambda: tapir_run.TapirBackend(net, 128))
    if name in cotracker.VARIANTS:
        shape = cotracker.VARIANTS[name]
        co = cotracker_network.CoTracker(cotracker_network.Config(window=shape.window, resolution=(192, 256)))
        load(co, name, options, constants=("time_emb",))
        return NetworkTracker(cotracker.card(name), lambda: cotracker_run.CoTrackerBackend(co, shape))
    if name in tapnext.SIZES:
        tap = tapnext_network.TapNext(tapnext_network.Config())
        load(tap, name, options)
        return NetworkTracker(tapnext.card(name), lambda: tapnext_run.TapNextBackend(tap, 128))
    if name == "pips":
        first = pips_network.Pips(pips_network.Config())
        load(first, name, options)
        return NetworkTracker(pips.card(name), lambda: pips_run.PipsBackend(first, (192, 256)))
    second = plusplus.PipsPlusPlus(plusplus.Config(iterations=4))
    load(second, name, options)
    return NetworkTracker(pips.card(name), lambda: pips_run.PlusPlusBackend(second, (256, 256)))


def usual(name: str, device: str) -> Tracker:
    """The tracker as it is used."""
    from common.trackers import registry
    from common.weights.options import SEEDED, EngineOptions

    assert device in ("auto", "cpu", "cuda")
    return registry.make(name, EngineOptions(weights=SEEDED, device=device))


def clip() -> list[Image]:
    """Frames of a scene, forward and back again without the ends, to be repeated for ever."""
    scene = random_scene(31, 24, 320, 240, 2, size=0.3, speed=1.2)
    images = list(scene.source().stream(0, scene.frames))
    return [*images, *images[-2:0:-1]]


def peak_mib() -> float:
    """Of this process so far. Kilobytes on Linux, bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def child(name: str, lengths: list[int], size: str, device: str) -> None:
    """One network over one clip; a line of JSON at each length."""
    import torch

    torch.set_num_threads(1)
    images = clip()
    xy = np.random.default_rng(0).uniform((10, 10), (310, 230), (POINTS, 2)).astype(np.float32)
    tracker = quarter(name) if size == "quarter" else usual(name, device)
    run = tracker.start(images[0], [Prompt("points", Points(xy))])
    before, wall = time.process_time(), time.perf_counter()
    frame = 1
    for length in lengths:
        begin = frame
        while frame < length:
            run.push(images[frame % len(images)])
            frame += 1
        now, wall_now = time.process_time(), time.perf_counter()
        made = {
            "frames": length,
            "cpu_s": (now - before) / (length - begin),
            "wall_s": (wall_now - wall) / (length - begin),
            "peak_mib": peak_mib(),
            "snapshot_mib": len(run.save()) / 2**20,
        }
        print(json.dumps(made), flush=True)
        before, wall = time.process_time(), time.perf_counter()


def measure(name: str, lengths: list[int], size: str, device: str) -> list[dict[str, float]]:
    """The child's lines, shown as they come."""
    command = [sys.executable, __file__, "--child", "--tracker", name, "--size", size, "--device", device]
    rows = []
    with subprocess.Popen(
        [*command, "--frames", *map(str, lengths)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            row = json.loads(line)
            rows.append(row)
            print(
                f"{name:20}{row['frames']:7d}{row['cpu_s']:11.3f}{row['wall_s']:10.3f}{row['peak_mib']:11.0f}"
                f"{row['snapshot_mib']:11.1f}",
                flush=True,
            )
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    return rows


def plot(rows: dict[str, list[dict[str, float]]], path: Path) -> None:
    figure, (memory, speed) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, found in rows.items():
        frames = [row["frames"] for row in found]
        (line,) = memory.plot(frames, [row["peak_mib"] for row in found], "o-", label=name)
        speed.plot(frames, [row["cpu_s"] for row in found], "o-", color=line.get_color(), label=name)
    memory.set(xlabel="frames", ylabel="peak resident memory, MiB", ylim=(0, None))
    speed.set(xlabel="frames", ylabel="CPU seconds per frame", ylim=(0, None))
    memory.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def _base(count: int) -> int:
    """Which of the lengths the last one is compared with: the second, when windows are full, or the first of two."""
    return max(0, min(1, count - 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[50, 200, 800])
    parser.add_argument("--tracker", action="append", help="only this one; repeat for more")
    parser.add_argument("--size", choices=("quarter", "usual"), default="quarter")
    parser.add_argument("--device", default="auto", help="for --size usual")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.tracker or list(REFERENCE)
    lengths = sorted(options.frames)
    if options.child:
        child(names[0], lengths, options.size, options.device)
        return 0
    OUT.mkdir(parents=True, exist_ok=True)
    print(f"{POINTS} points, {options.size} picture, seeded weights")
    print(f"{'tracker':20}{'frames':>7}{'CPU s/fr.':>11}{'s/frame':>10}{'peak MiB':>11}{'snapshot':>11}")
    rows: dict[str, list[dict[str, float]]] = {}
    for name in names:
        rows[name] = measure(name, lengths, options.size, options.device)
        for frames, (seconds, peak) in REFERENCE.get(name, {}).items() if options.size == "quarter" else ():
            print(f"{'  published code':20}{frames:7d}{seconds:11.3f}{'':10}{peak:11.0f}")
    plot(rows, OUT / "point_networks.png")
    growth = {name: found[-1]["peak_mib"] / found[_base(len(found))]["peak_mib"] - 1 for name, found in rows.items()}
    for name, share in growth.items():
        print(f"{name:20}{share:+7.1%} peak memory from {lengths[_base(len(lengths))]} to {lengths[-1]} frames")
    failed = sum(share > ALLOWED for share in growth.values())
    print(f"{'FAIL' if failed else 'PASS'}: {len(growth) - failed} of {len(growth)} within {ALLOWED:.0%}.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
