"""Peak memory of `python -m apps track` on a long clip and on a short one: it must not depend on the length.

Runs the command line as a user does, every tracker that needs no weights, forward and backward, and compares the largest
resident set of the whole process (ru_maxrss of that child). Prints a table, writes out/benchmarks/memory.png and exits
with 1 when a long clip takes more than 5 % above a short one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.scenes import FrameTruth, random_scene
from common.trackers import registry

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "benchmarks"
ALLOWED = 0.05
"""How much more a long clip may take, as a share of the short clip's peak: noise of the allocator and the decoder."""

_SCENE = random_scene(31, 120, 320, 240, 1, size=0.3, speed=1.2)


@dataclass(frozen=True)
class Measurement:
    tracker: str
    kind: str
    direction: str
    frames: int
    peak_mib: float
    seconds: float


def render(path: Path, frames: int) -> None:
    """The scene played to and fro, which can go on for ever, as an H.264 file of that many frames."""
    images = list(_SCENE.source().stream(0, _SCENE.frames))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = _SCENE.width, _SCENE.height, "yuv420p"
        for image in islice(cycle([*images, *images[-2:0:-1]]), frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def shown_at(frame: int) -> FrameTruth:
    """The truth of a frame of the rendered clip."""
    step = frame % (2 * _SCENE.frames - 2)
    return _SCENE.truth(min(step, 2 * _SCENE.frames - 2 - step))


def prompt(kind: str, frame: int, folder: Path) -> list[str]:
    """The flags that draw the object on that frame."""
    thing = shown_at(frame).objects[0]
    assert thing.box is not None and thing.points is not None
    if kind == "mask":
        path = folder / f"prompt-{frame}.png"
        cv2.imwrite(str(path), thing.mask.astype(np.uint8) * 255)
        return ["--mask", f"{path}@{frame}"]
    if kind == "points":
        return [part for x, y in thing.points.xy[:4].tolist() for part in ("--point", f"{x},{y}@{frame}")]
    return ["--box", f"{','.join(str(v) for v in thing.box.xyxy.tolist())}@{frame}"]


def measure(tracker: str, kind: str, direction: str, frames: int, folder: Path) -> Measurement:
    """One run of the command line in a process of its own."""
    at = 0 if direction == "forward" else frames - 1
    result = folder / f"{tracker}-{direction}-{frames}"
    command = [sys.executable, "-m", "apps", "track", str(folder / f"{frames}.mp4"), *prompt(kind, at, folder)]
    command += ["--tracker", tracker, "--direction", direction, "--quiet", "--out", str(result)]
    begin = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if child.returncode != 0:
        raise SystemExit(f"exit code {child.returncode}: {' '.join(command)}")
    tracked = len({line.split(",")[0] for line in (result / "tracks.txt").read_text().splitlines()})
    if tracked < 0.5 * frames:
        raise SystemExit(
            f"{tracker} {direction}: only {tracked} of {frames} frames have a box, so this measures nothing"
        )
    shutil.rmtree(result)
    # Kilobytes on Linux, bytes on macOS.
    return Measurement(
        tracker, kind, direction, frames, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), seconds
    )


def plot(rows: list[tuple[Measurement, Measurement]], path: Path) -> None:
    labels = [f"{short.tracker}\n{short.direction}" for short, _ in rows]
    x = np.arange(len(rows))
    figure, axes = plt.subplots(figsize=(1.5 * len(rows) + 2, 4), layout="constrained")
    for offset, column in ((-0.2, 0), (0.2, 1)):
        bars = axes.bar(
            x + offset, [pair[column].peak_mib for pair in rows], 0.38, label=f"{rows[0][column].frames} frames"
        )
        axes.bar_label(bars, fmt="%.0f")
    axes.set_xticks(x, labels)
    axes.set_ylabel("peak resident memory, MiB")
    axes.set_title("Memory does not depend on the length of the video")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", type=int, default=300)
    parser.add_argument("--long", type=int, default=3000)
    parser.add_argument("--tracker", action="append", help="only this one; repeat for more")
    parser.add_argument("--direction", action="append", choices=("forward", "backward"), help="only this one")
    options = parser.parse_args()
    names = options.tracker or [name for name in registry.names() if registry.make(name).card.weights is None]
    OUT.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Measurement, Measurement]] = []
    with tempfile.TemporaryDirectory(dir=OUT, prefix="memory-") as name:
        folder = Path(name)
        for frames in (options.short, options.long):
            render(folder / f"{frames}.mp4", frames)
        print(f"{'tracker':16}{'direction':10}{options.short:>8} fr.{options.long:>9} fr.   change  frames/s")
        for tracker in names:
            kind = next(
                k for k in ("box", "mask", "points", "oriented_box") if k in registry.make(tracker).card.geometries
            )
            for direction in options.direction or ("forward", "backward"):
                short, long = (measure(tracker, kind, direction, n, folder) for n in (options.short, options.long))
                change = long.peak_mib / short.peak_mib - 1
                verdict = "PASS" if change <= ALLOWED else "FAIL"
                speed = long.frames / long.seconds
                print(
                    f"{tracker:16}{direction:10}{short.peak_mib:8.1f} MiB{long.peak_mib:8.1f} MiB {change:+7.1%}  {speed:8.1f}  {verdict}",
                    flush=True,
                )
                rows.append((short, long))
    plot(rows, OUT / "memory.png")
    failed = sum(long.peak_mib / short.peak_mib - 1 > ALLOWED for short, long in rows)
    print(
        f"{'FAIL' if failed else 'PASS'}: {len(rows) - failed} of {len(rows)} within {ALLOWED:.0%}. Plot: {OUT.relative_to(ROOT)}/memory.png"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
