"""Corrections per 1,000 frames of a simulated annotator: interpolation, first-frame tracking, two-sided tracking, the assistant.

The annotator corrects the first figure under IoU 0.7, then the labels that depend on it are made again
(`common/labeling/effort.py`). The assistant gets the first frame fully labelled, which counts; the others get each
object's first (and last) box, which counts as well. Objects that are mostly hidden are not looked at.

In short clips the labelled first frame is much of the assistant's work; `--frames 300` says more about the long videos that it
is made for.

    python benchmarks/effort.py [--seeds 2] [--frames 300] [--tracker correlation] [--short]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.assistant import Clip, label_clip, real, synthetic
from common.geometry.measures import box_iou
from common.labeling.candidates import available
from common.labeling.effort import Life, assisted, by_interpolation, forward, two_sided
from common.labeling.plan import make_plan
from common.labeling.selection import select
from common.trackers import registry


def lives(clip: Clip) -> list[Life]:
    """Every object; frames on which it cannot be told for certain are unsure."""
    frames = len(clip.truth)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for keys in clip.keys:
        for key in keys:
            found.setdefault(key, (np.full((frames, 4), np.nan), np.zeros(frames, bool)))
    for frame, (keys, truth) in enumerate(zip(clip.keys, clip.truth, strict=True)):
        for key, box in zip(keys, truth.boxes, strict=True):
            found[key][0][frame] = box
    for boxes, unsure in found.values():
        last = boxes[0]
        for frame in range(frames):
            ignore = clip.truth[frame].ignore
            if np.isfinite(boxes[frame, 0]):
                last = boxes[frame]
            elif len(ignore) and np.isfinite(last[0]) and box_iou(last[None], ignore).max() > 0.05:
                unsure[frame] = True  # still there, but mostly hidden
    return [Life(key, boxes, unsure) for key, (boxes, unsure) in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=90, help="of a synthetic scene; as many things at a time")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--tracker", default="correlation")
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument(
        "--short", action="store_true", help="interpolation and the assistant alone, in half of the time"
    )
    chosen = parser.parse_args()
    tracker = registry.make(chosen.tracker)
    total: dict[str, int] = {}
    frames = 0
    with tempfile.TemporaryDirectory() as name:
        clips = [synthetic(chosen.first + n, Path(name), chosen.frames) for n in range(chosen.seeds)]
        clips += real() if chosen.real else []
        for clip in clips:
            truth = lives(clip)
            support = clip.support([0])
            plan = make_plan(support, select(support, available(support), budget_s=chosen.budget))
            tracks: dict[str, np.ndarray] = {}
            for frame, key, box in label_clip(clip, plan, support):
                tracks.setdefault(key, np.full((len(clip.truth), 4), np.nan))[frame] = box
            efforts = {"interpolation": by_interpolation(truth, len(clip.truth))}
            if not chosen.short:
                efforts["first frame, forward"] = forward(truth, clip.source, tracker)
                efforts["two-sided"] = two_sided(truth, clip.source, tracker)
            efforts["assistant"] = assisted(truth, tracks, clip.source, tracker, [0])
            frames += len(clip.truth)
            print(f"{clip.name}: {len(truth)} objects, {len(clip.truth)} frames, {plan.choice.names}")
            for way, effort in efforts.items():
                total[way] = total.get(way, 0) + effort.corrections
                print(
                    f"  {way:22} {effort.corrections:5} corrections {effort.per_thousand:8.1f} per 1,000 frames",
                    flush=True,
                )
    print("together")
    for way, corrections in total.items():
        share = corrections / max(total["interpolation"], 1)
        print(f"  {way:22} {1000 * corrections / frames:8.1f} per 1,000 frames, {share:.1%} of interpolation")


if __name__ == "__main__":
    main()
