"""Memory of `python -m apps label` on a long video and on a short one: it must not depend on the length.

Each length is labelled by a process of its own, as a user starts it, on one synthetic scene that is played to and fro. The
process is looked at twice a second for what it holds in memory. Prints the peaks, writes
out/benchmarks/assistant_memory.png, and exits with 1 when the longest takes more than 5 % above the shortest.

    python benchmarks/assistant_memory.py [--frames 500 5000]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.scenes import random_scene
from common.geometry.annotation import AnnotationWriter, Figure
from common.geometry.meta import ObjectClass, ProjectMeta
from common.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "benchmarks"
ALLOWED = 0.05
_LOOK_EVERY_S = 0.5

Curve = list[tuple[float, float]]
"""Seconds, MiB."""


def material(folder: Path, lengths: Sequence[int]) -> None:
    """Videos of these lengths, and labels.json for their first frame."""
    scene = random_scene(31, 60, 192, 144, 2, size=0.3)
    images = list(scene.source().stream(0, scene.frames))
    drawn = [(o.key, o.box) for o in scene.truth(0).objects if o.box is not None]
    meta = ProjectMeta.of([ObjectClass.of("thing", drawn[0][1])])
    meta.write(folder / "meta.json")
    with AnnotationWriter(folder / "labels.json", scene.width, scene.height, meta) as writer:
        for key, _ in drawn:
            writer.add_object(key, "thing")
        writer.write(0, [Figure(key, box) for key, box in drawn])
    for length in lengths:
        with VideoWriter(folder / f"{length}.mp4", scene.width, scene.height, 25.0) as movie:
            for image in islice(cycle([*images, *images[-2:0:-1]]), length):
                movie.write(image)


def measure(folder: Path, length: int) -> tuple[float, Curve]:
    """Peak of the whole process in MiB (ru_maxrss), and what it held on the way."""
    out = folder / f"out-{length}"
    command = [
        sys.executable,
        "-m",
        "apps",
        "label",
        str(folder / f"{length}.mp4"),
        "--examples",
        str(folder / "labels.json"),
    ]
    command += ["--out", str(out), "--candidate", "exemplar", "--no-overlay", "--quiet", "--every", "2"]
    child = subprocess.Popen(command, cwd=ROOT)
    curve: Curve = []
    began = time.monotonic()
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
            curve.append((time.monotonic() - began, pages * os.sysconf("SC_PAGESIZE") / 2**20))
        time.sleep(_LOOK_EVERY_S)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"exit code {child.returncode}: {' '.join(command)}")
    labelled = len({line.split(",")[0] for line in (out / "tracks.txt").read_text().splitlines()})
    if labelled < 0.9 * length:
        raise SystemExit(f"only {labelled} of {length} frames have a box, so this measures nothing")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), curve


def plot(curves: dict[int, Curve], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for length, curve in curves.items():
        whole = curve[-1][0] if curve else 1.0
        axes.plot([at / whole for at, _ in curve], [mib for _, mib in curve], label=f"{length} frames")
    axes.set_xlabel("share of the run")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(0)
    axes.set_title("label: memory does not depend on the length of the video")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[500, 5000])
    lengths = sorted(parser.parse_args().frames)
    OUT.mkdir(parents=True, exist_ok=True)
    peaks: list[float] = []
    curves: dict[int, Curve] = {}
    with tempfile.TemporaryDirectory() as name:
        material(Path(name), lengths)
        for length in lengths:
            peak, curves[length] = measure(Path(name), length)
            peaks.append(peak)
            print(f"{length:6} frames: peak {peak:7.1f} MiB", flush=True)
    plot(curves, OUT / "assistant_memory.png")
    change = peaks[-1] / peaks[0] - 1
    print(f"{'PASS' if change <= ALLOWED else 'FAIL'}: longest over shortest {change:+.1%}")
    return int(change > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
