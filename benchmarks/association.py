"""How well detections are given identities, ours beside the trackers that people use, in one run: HOTA, IDF1, frames/s.

    python benchmarks/association.py [--sets MOT15 MOT17 DanceTrack] [--peers NAME ...] [--venv DIR] [--out DIR] [--seed N]
        [--rounds N]

Needs the evaluation data (../shared beside the checkout). All trackers get the same detections and no pictures; MOT17 with the
camera's motion from the files beside it, for those that can use it, and again without. MOT17: second halves of the sequences.
DanceTrack has no detections: they are made from its truth (misses, jitter, false ones). Peers run in an environment of their
own under --venv, which is made on the first run on top of this one; those that cannot be had are left out, saying so.
Frames/s: of processor time in the update calls alone, one thread; all trackers run in turn, `--rounds` times, and of each
sequence the quickest time of each tracker counts, for the speed of a shared machine swings by the minute. Repaired: with a
run backward, as `associate` does it.
"""

from __future__ import annotations

import argparse
import configparser
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.association import registry
from common.association.camera import text as camera_text
from common.association.contract import Affine, Tracks
from common.association.offline.backward import run_backward
from common.association.offline.both_ways import both_ways
from common.association.offline.repair import RepairSettings, repair
from common.association.settings import Settings, Timing
from common.evaluation import mot, mot_text
from common.geometry.detections import Detections

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "mot"
RUNNER = Path(__file__).with_name("association_peers.py")
PEERS = (
    "SORT", "roboflow ByteTrack", "roboflow OC-SORT", "roboflow BoT-SORT", "roboflow C-BIoU", "ultralytics BoT-SORT",
    "supervisely BoT-SORT",
)  # fmt: skip
OURS = ("ours", "ours, repaired", "ours, ByteTrack")


@dataclass(frozen=True)
class Sequence:
    """dets float64 (n, 6): frame from 1, x1, y1, x2, y2, score. motions: by frame from 1."""

    name: str
    dets: np.ndarray
    truth: mot_text.MotRows
    motions: dict[int, Affine]
    fps: float
    frames: int
    rules: mot.Rules


def sequences(kind: str, seed: int) -> Iterator[Sequence]:
    folder = DATA / kind.removesuffix(" without camera")
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        info = configparser.ConfigParser()
        info.read(path / "seqinfo.ini")
        fps, frames = info.getfloat("Sequence", "frameRate"), info.getint("Sequence", "seqLength")
        truth = mot_text.read(path / "gt" / "gt.txt")
        if kind == "DanceTrack":
            yield Sequence(path.name, _made(truth, seed), truth, {}, fps, frames, "plain")
            continue
        dets = _dets(mot_text.read(next((path / "det").iterdir())))
        if kind == "MOT15":
            yield Sequence(path.name, dets, truth, {}, fps, frames, "MOT15")
            continue
        first = frames // 2 + 1
        dets = dets[dets[:, 0] > first]
        dets[:, 0] -= first
        half = truth.chosen(truth.frame > first)
        half = mot_text.MotRows(half.frame - first, half.id, half.xywh, half.flag, half.label, half.columns)
        motions = {} if "without" in kind else camera_text.read(path / "gmc" / "gmc.txt")
        motions = {k + 1 - first: m for k, m in motions.items() if k + 1 > first}
        yield Sequence(path.name, dets, half, motions, fps, frames - first, "MOT17")


def _dets(rows: mot_text.MotRows) -> np.ndarray:
    xyxy = rows.xywh.copy()
    xyxy[:, 2:] += xyxy[:, :2]
    order = np.argsort(rows.frame, kind="stable")
    return np.concatenate((rows.frame[:, None], xyxy, rows.flag[:, None]), 1)[order]


def _made(truth: mot_text.MotRows, seed: int) -> np.ndarray:
    """Detections out of truth: a tenth missed for a few frames at a time, boxes that wander, false ones beside real ones."""
    rng = np.random.default_rng(seed)
    off: dict[int, np.ndarray] = {}
    missed: dict[int, int] = {}
    rows = []
    for frame in np.unique(truth.frame).tolist():
        here = np.flatnonzero(truth.frame == frame)
        cover = mot.overlaps(truth.xywh[here], truth.xywh[here]) * (1 - np.eye(len(here)))
        for k, hidden in zip(here.tolist(), cover.max(1, initial=0.0).tolist(), strict=True):
            identity, (x, y, w, h) = int(truth.id[k]), truth.xywh[k].tolist()
            off[identity] = 0.8 * off.get(identity, np.zeros(4)) + rng.normal(0, 0.025 * (1 + 2 * hidden), 4)
            if missed.get(identity, 0) > 0:
                missed[identity] -= 1
                continue
            if rng.random() < 0.03 + 0.4 * max(0.0, hidden - 0.5):
                missed[identity] = int(rng.integers(1, 6))
            d = off[identity] * (w, h, w, h)
            score = float(np.clip(0.95 - 0.7 * max(0.0, hidden - 0.15) + rng.normal(0, 0.05), 0.05, 0.99))
            rows.append((frame, x + d[0], y + d[1], x + w + d[2], y + h + d[3], score))
            if rng.random() < 0.05:
                fx, fy = x + rng.normal(0, 0.6 * w), y + rng.normal(0, 0.3 * h)
                rows.append((frame, fx, fy, fx + 0.6 * w, fy + 0.6 * h, float(rng.uniform(0.1, 0.55))))
    table = np.array(rows)
    table[:, 3:5] = np.maximum(table[:, 3:5], table[:, 1:3] + 2)
    return table


def ours(sequence: Sequence, name: str) -> tuple[mot_text.MotRows, float]:
    """Rows and seconds of processor time of the updates (and of the repair)."""
    settings, motions = Settings(timing=Timing(1, 1, sequence.fps)), sequence.motions
    engine = registry.make("bytetrack" if "ByteTrack" in name else "botsort", settings)
    edges = np.searchsorted(sequence.dets[:, 0], np.arange(1, sequence.frames + 2))
    parts = [sequence.dets[a:b] for a, b in pairwise(edges)]
    seen = [Detections(p[:, 1:5], np.clip(p[:, 5], 0, 1), np.zeros(len(p), np.int64)) for p in parts]
    cameras = [sequence.motions.get(frame) if frame > 1 else None for frame in range(1, sequence.frames + 1)]
    before = time.process_time()
    found = [engine.update(d, camera=c) for d, c in zip(seen, cameras, strict=True)]
    tracks = Tracks.joined([*found, engine.flush()])
    if "repaired" in name:
        backward = run_backward(
            "botsort", settings, zip(range(sequence.frames, 0, -1), seen[::-1], strict=True), motions
        )
        tracks = both_ways(tracks, backward, sequence.fps, motions=motions)
        tracks = repair(
            tracks, RepairSettings(fps=sequence.fps), span=(1, sequence.frames), motions=sequence.motions
        ).tracks
    seconds = time.process_time() - before
    table = np.concatenate(
        (tracks.frames[:, None], tracks.ids[:, None], tracks.xyxy.astype(float), tracks.scores[:, None]), 1
    )
    return _rows(table), seconds


def cost_ms(objects: int = 50, frames: int = 160) -> tuple[float, float]:
    """Least and median processor time of one update, of objects that walk about, a twentieth of them missed."""
    rng = np.random.default_rng(0)
    place, speed = rng.uniform(0, 1500, (objects, 2)), rng.normal(0, 3, (objects, 2))
    size = np.stack((rng.uniform(30, 60, objects), rng.uniform(80, 160, objects)), 1)
    engine = registry.make("botsort", Settings(timing=Timing(0, 1, 30.0)))
    spent = []
    for _ in range(frames):
        place += speed
        centre = place + rng.normal(0, 1.5, (objects, 2))
        seen = rng.random(objects) > 0.05
        boxes = np.concatenate((centre - size / 2, centre + size / 2), 1)[seen]
        found = Detections(boxes, rng.uniform(0.5, 0.99, seen.sum()), np.zeros(seen.sum(), np.int64))
        before = time.process_time()
        engine.update(found)
        spent.append(1000 * (time.process_time() - before))
    return min(spent[20:]), float(np.median(spent[20:]))


def _rows(table: np.ndarray) -> mot_text.MotRows:
    xywh = table[:, 2:6].copy()
    xywh[:, 2:] -= xywh[:, :2]
    one = np.ones(len(table), np.int64)
    return mot_text.MotRows(table[:, 0].astype(int), table[:, 1].astype(int), xywh, table[:, 6], one, 9)


def theirs(python: Path, sequence: Sequence, name: str) -> tuple[mot_text.MotRows, float]:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        still = np.eye(2, 3)
        motions = [sequence.motions.get(frame, still) for frame in range(1, sequence.frames + 1)]
        given = np.array(motions) if sequence.motions else np.zeros((0, 2, 3))
        np.savez(source, dets=sequence.dets, frames=sequence.frames, motions=given)
        done = subprocess.run(
            [str(python), str(RUNNER), name, str(source), str(target)], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
        answer = np.load(target)
        return _rows(answer["rows"]), float(answer["seconds"])


def peers_python(folder: Path) -> Path | None:
    """The interpreter of an environment with the peers, made when it is not there; None when it cannot be had."""
    python = folder / "bin" / "python"
    check = [str(python), "-c", "import trackers, supervision"]
    if python.exists() and subprocess.run(check, check=False, capture_output=True).returncode == 0:
        return python
    print(f"making {folder} with roboflow's trackers ...", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False, capture_output=True).returncode == 0:
        site = next(folder.glob("lib/python*/site-packages"))
        own = next(p for p in sys.path if p.endswith("site-packages"))
        (site / "zz_suite.pth").write_text(own + "\n")  # ultralytics and the SDK are those of the suite
        for packages in (["trackers", "supervision"], ["cython_bbox"]):
            pip = [str(python), "-m", "pip", "install", "-q", *packages]
            subprocess.run(pip, check=False, capture_output=True)
        if subprocess.run(check, check=False, capture_output=True).returncode == 0:
            return python
    print("the peers' packages cannot be had here: only ours are measured")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["MOT15", "MOT17", "MOT17 without camera", "DanceTrack"]
    parser.add_argument("--sets", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--venv", type=Path, default=ROOT / "out" / "association-peers")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "association")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not DATA.is_dir():
        print("the evaluation data is not here: nothing is measured")
        return
    python = peers_python(args.venv) if args.peers else None
    table: dict[str, dict[str, dict[str, float]]] = {}
    for kind in args.sets:
        every = list(sequences(kind, args.seed))
        print(f"\n{kind}: {len(every)} sequences, {sum(s.frames for s in every)} frames")
        print(
            f"| {'tracker':22} | HOTA | DetA | AssA | IDF1 | MOTA | IDSW | frames/CPU s |\n|---|--:|--:|--:|--:|--:|--:|--:|"
        )
        names = (*OURS, *(args.peers if python else ()))
        found: dict[tuple[str, str], mot_text.MotRows] = {}
        quickest: dict[tuple[str, str], float] = {}
        left_out: dict[str, RuntimeError] = {}
        for _ in range(args.rounds):
            for name, sequence in product(names, every):
                if name in left_out:
                    continue
                try:
                    done = ours(sequence, name) if name in OURS else theirs(python, sequence, name)  # type: ignore[arg-type]
                except RuntimeError as error:
                    left_out[name] = error
                    continue
                at = name, sequence.name
                found[at] = done[0]
                quickest[at] = min(done[1], quickest.get(at, done[1]))
        for name in names:
            if name in left_out:
                print(f"| {name:22} | left out: {left_out[name]} |", flush=True)
                continue
            scores = {q.name: mot.score(q.truth, found[name, q.name], q.frames, q.rules) for q in every}
            s = mot.combine(scores).summary()
            rate = sum(q.frames for q in every) / sum(quickest[name, q.name] for q in every)
            table.setdefault(kind, {})[name] = {**s, "frames_per_cpu_s": rate}
            shares = " | ".join(f"{100 * s[k]:.1f}" for k in ("HOTA", "DetA", "AssA", "IDF1", "MOTA"))
            print(f"| {name:22} | {shares} | {s['IDSW']} | {rate:.0f} |", flush=True)
    least, median = cost_ms()
    print(f"\nassociation of 50 objects: {least:.2f} ms at best, {median:.2f} ms in the median")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "association.json").write_text(json.dumps(table, indent=1))
    _plot(table, args.out / "association.png")


def _plot(table: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, max(len(table), 1), figsize=(5 * max(len(table), 1), 4), squeeze=False)
    for axis, (kind, rows) in zip(axes[0], table.items(), strict=False):
        for name, row in rows.items():
            axis.scatter(row["frames_per_cpu_s"], 100 * row["HOTA"], marker="o" if name in OURS else "x")
            axis.annotate(name, (row["frames_per_cpu_s"], 100 * row["HOTA"]), fontsize=7)
        axis.set(title=kind, xscale="log", xlabel="frames per CPU second", ylabel="HOTA")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
