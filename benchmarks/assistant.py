"""The labeling assistant with 1, 3 and 10 labelled frames: the selected candidate against each fixed one.

Clips: synthetic scenes of two classes whose things enter and leave among clutter, and real clips of ../shared/data with true
boxes. Every candidate is learned from the labelled frames, gets the threshold that selection measured, and is counted on
frames that nobody labelled (F1 at IoU 0.5). `best` is the best single candidate in hindsight on those frames. The selected one
also labels the whole clip, through the command line's own path: HOTA, new objects found within five frames, identities.

    python benchmarks/assistant.py [--seeds 2] [--labelled 1 3] [--real] [--budget 120]
    python benchmarks/assistant.py --labelled 1 3 10 --selection        the choice alone, in a quarter of the time
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clips import DATA
from common.evaluation import mot, outlines
from common.evaluation.demo import _coast
from common.evaluation.mot_text import MotRows
from common.evaluation.mot_text import read as read_mot
from common.evaluation.motion import Camera, Motion, Ripple
from common.evaluation.paint import Picture, ground, hue, patterned
from common.evaluation.scenes import Scene, SceneObject
from common.geometry.measures import box_iou
from common.geometry.types import Box
from common.labeling import counting
from common.labeling.candidates import available, make
from common.labeling.chosen import mapped
from common.labeling.counting import Truth
from common.labeling.plan import Plan, make_plan
from common.labeling.run import LabelledVideo, label_video
from common.labeling.selection import Choice, select
from common.labeling.support import Example, Labelled, SupportSet
from common.prediction.journal import Journal
from common.prediction.results import Results
from common.video.contract import FrameSource
from common.video.reader import open_source

SHOWN = 0.35
"""Objects of which less is visible are neither wanted nor wrong."""


@dataclass(frozen=True)
class Skin:
    """The same pattern for all things of a class, in slightly different colours."""

    seed: int
    colour: tuple[float, float, float]

    def __call__(self, rng: np.random.Generator, height: int, width: int) -> Picture:
        red, green, blue = (float(c) for c in np.clip(np.array(self.colour) * rng.uniform(0.85, 1.15, 3), 0, 255))
        return patterned((red, green, blue))(np.random.default_rng(self.seed), height, width)


@dataclass(frozen=True, eq=False)
class Clip:
    """truth, keys: by frame. classes: names."""

    name: str
    source: FrameSource
    classes: tuple[str, ...]
    truth: list[Truth]
    keys: list[list[str]]

    def support(self, frames: Sequence[int]) -> SupportSet:
        examples = []
        for frame in frames:
            rows = zip(self.keys[frame], self.truth[frame].classes, self.truth[frame].boxes, strict=True)
            labels = tuple(Labelled(key, self.classes[int(label)], Box(box)) for key, label, box in rows)
            examples.append(Example(lambda f=frame: self.source.read(f), labels, frame, self.source))
        return SupportSet(tuple(examples), self.classes)


def class_scene(
    seed: int, frames: int = 90, width: int = 400, height: int = 300, muted: bool = False
) -> tuple[Scene, dict[str, int]]:
    """Two classes of alike things (outline and pattern), some there from the beginning, some entering, among clutter; the
    camera pans. muted: everything has dull colours. Longer ones have more things, so that about as many are there at any
    time. Gives the class of each object as well."""
    rng = np.random.default_rng((seed, 77))
    side = min(width, height)
    first_hue, strong = rng.uniform(), (0.25, 0.55) if muted else (0.75, 0.9)
    makes = []
    for number in range(2):
        size, aspect = side * rng.uniform(0.11, 0.2), rng.uniform(0.5, 2)
        w, h = size * np.sqrt(aspect), size / np.sqrt(aspect)
        outline = [
            outlines.ellipse(w, h), outlines.blob(rng, w, h), outlines.rectangle(w, h), outlines.star(size * 0.6)
        ][rng.integers(4)]  # fmt: skip
        makes.append((outline, Skin(int(rng.integers(1 << 20)), hue(first_hue + number / 2, *strong))))

    def motion(enters: float) -> Motion:
        angle, speed = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.004, 0.012)
        way = np.array([np.cos(angle), np.sin(angle)]) * speed
        middle = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
        start = middle - way * (0 if enters < 0 else enters + rng.uniform(40, 80))
        return Motion(
            (float(start[0]), float(start[1])), velocity=(float(way[0]), float(way[1])), swing=rng.uniform(0.05, 0.3),
            swing_period=rng.uniform(40, 90), grow=rng.uniform(0, 0.15), grow_period=rng.uniform(50, 100),
        )  # fmt: skip

    things, labels = [], {}

    def junk(number: int, enters: float) -> SceneObject:
        blob = outlines.blob(rng, *(side * rng.uniform(0.06, 0.2, 2)))
        paint = patterned(hue(rng.uniform(), strong[0], rng.uniform(0.4, 0.9)))
        return SceneObject(f"junk-{number}", blob, motion(enters), paint, tracked=False)

    things += [junk(number, -1) for number in range(6)]
    entering = round(frames * 3 / 90)
    for number in range(4 + entering):
        outline, skin = makes[number % 2]
        key = f"object-{number}"
        labels[key] = number % 2
        enters = -1 if number < 4 else rng.uniform(5, frames - 36)
        things.append(SceneObject(key, outline, motion(enters), skin, Ripple(2.0) if number % 3 == 0 else None))
    later = [junk(6 + number, rng.uniform(5, frames - 36)) for number in range(round(frames * 4 / 90) - 4)]
    things = [*things[:6], *later, *things[6:]]
    camera = Camera(pan=(0.05 * side, 0.03 * side), zoom=0.025, roll=0.015)
    backdrop = _coast if rng.uniform() < 0.5 else ground
    scene = Scene(
        seed, frames, width, height, tuple(things), camera, backdrop, noise=2.0, light=0.05, points=1, name=f"scene-{seed}"
    )  # fmt: skip
    return scene, labels


class Rendered:
    """A scene's frames, kept as files: rendering is slower than decoding."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        import cv2

        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(scene.frames):
            path = folder / f"{frame:05}.png"
            if not path.exists():
                cv2.imwrite(str(path), scene.render(frame)[..., ::-1])
        self.source = open_source(folder)


def synthetic(seed: int, folder: Path, frames: int = 90) -> Clip:
    scene, labels = class_scene(seed, frames, muted=seed % 2 == 1)
    truth, keys = [], []
    for frame in range(scene.frames):
        seen = [o for o in scene.truth(frame).objects if o.box is not None]
        sure = [o for o in seen if o.visible_fraction >= SHOWN and (o.box.xyxy[2:] - o.box.xyxy[:2]).min() >= 8]
        boxes = np.array([o.box.xyxy for o in sure], np.float32).reshape(-1, 4)
        rest = np.array([o.box.xyxy for o in seen if o not in sure], np.float32).reshape(-1, 4)
        truth.append(Truth(boxes, np.array([labels[o.key] for o in sure], np.int64), rest))
        keys.append([o.key for o in sure])
    return Clip(scene.name, Rendered(scene, folder / scene.name).source, ("alpha", "beta"), truth, keys)


def real(most: int = 100, only: Sequence[str] | None = None) -> list[Clip]:
    """MOTChallenge sequences whose pictures are there; boxes of people. most: frames. only: names."""
    found = []
    for folder in sorted((DATA / "mot" / "MOT15").glob("*")) if DATA.exists() else []:
        pictures = [*folder.glob("*.mp4"), folder / "img1"]
        path = next((p for p in pictures if p.exists()), None)
        if path is None or (only and folder.name not in only):
            continue
        rows = read_mot(folder / "gt" / "gt.txt")
        source = open_source(path)
        frames = min(source.info.frames, most)
        truth, keys = [], []
        for frame in range(frames):
            mine = np.flatnonzero((rows.frame == frame + 1) & (rows.flag != 0))
            xywh = rows.xywh[mine]
            boxes = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1).astype(np.float32)
            size = np.array([source.info.width, source.info.height] * 2, np.float32)
            boxes = np.clip(boxes, 0, size)
            truth.append(Truth(boxes, np.zeros(len(mine), np.int64), np.zeros((0, 4), np.float32)))
            keys.append([str(int(i)) for i in rows.id[mine]])
        found.append(Clip(folder.name, _Head(source, frames), ("person",), truth, keys))
    return found


class _Head:
    """The first frames of a source."""

    def __init__(self, source: FrameSource, frames: int) -> None:
        from dataclasses import replace

        self._source = source
        self.info = replace(source.info, frames=frames)

    def read(self, index: int):
        return self._source.read(index)

    def stream(self, start: int, stop: int):
        return self._source.stream(start, stop)

    def close(self) -> None:
        self._source.close()


def f1(found: Sequence, tests: Sequence[Truth], thresholds: Sequence[float]) -> float:
    """Mean over classes at the given thresholds."""
    values = []
    for label, threshold in enumerate(thresholds):
        parts = [counting.hits(one, test, label) for one, test in zip(found, tests, strict=True)]
        if sum(p.wanted for p in parts):
            values.append(counting.at(parts, threshold).f1)
    return float(np.mean(values)) if values else 0.0


def label_clip(clip: Clip, plan: Plan, support: SupportSet) -> list[tuple[int, str, np.ndarray]]:
    """Frame, key and box of everything that was labelled."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "job.sqlite", "job") as journal:
        label_video(clip.source, plan, support, journal)
        results = Results(journal, plan.settings(), clip.source.info)
        video = LabelledVideo(results, support.frames(clip.source), info=clip.source.info)
        return [(frame, one.key, one.box.xyxy) for frame, found in video.frames() for one in found]


def hota(clip: Clip, rows: Sequence[tuple[int, str, np.ndarray]]) -> dict[str, float]:
    """Scores of a labelled clip; what lies on things that nobody could tell is left out."""
    kept = []
    for frame, key, box in rows:
        truth = clip.truth[frame]
        on_unsure = len(truth.ignore) and box_iou(box[None], truth.ignore).max() > 0.3
        on_true = len(truth.boxes) and box_iou(box[None], truth.boxes).max() >= 0.5
        if on_true or not on_unsure:
            kept.append((frame, key, box))
    true = [
        (frame, key, box)
        for frame in range(len(clip.truth))
        for key, box in zip(clip.keys[frame], clip.truth[frame].boxes, strict=True)
    ]
    scores = mot.score(_mot(true), _mot(kept), len(clip.truth), "plain").summary()
    entered, soon = _entered(clip, kept)
    return {"HOTA": scores["HOTA"], "IDF1": scores["IDF1"], "IDSW": scores["IDSW"], "new": entered, "soon": soon}


def _mot(rows: Sequence[tuple[int, str, np.ndarray]]) -> MotRows:
    names = {key: n for n, key in enumerate(dict.fromkeys(key for _, key, _ in rows), 1)}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for frame, key, box in rows:
            x1, y1, x2, y2 = box
            file.write(f"{frame + 1},{names[key]},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,1,1\n")
        file.flush()
        return read_mot(Path(file.name))


def _entered(clip: Clip, rows: Sequence[tuple[int, str, np.ndarray]]) -> tuple[int, int]:
    """Objects that come in after the first frame and stay for ten, and how many of them have a figure within five."""
    by_frame: dict[int, list[np.ndarray]] = {}
    for frame, _, box in rows:
        by_frame.setdefault(frame, []).append(box)
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for frame, keys in enumerate(clip.keys):
        for key in keys:
            first.setdefault(key, frame)
            count[key] = count.get(key, 0) + 1
    new = [key for key, frame in first.items() if frame > 0 and count[key] >= 10]
    soon = 0
    for key in new:
        for frame in range(first[key], min(first[key] + 6, len(clip.truth))):
            if key in clip.keys[frame]:
                box = clip.truth[frame].boxes[clip.keys[frame].index(key)]
                boxes = by_frame.get(frame)
                if boxes and box_iou(box[None], np.array(boxes)).max() >= 0.5:
                    soon += 1
                    break
    return len(new), soon


def measure(clip: Clip, labelled: int, budget_s: float, step: int, selection: bool = False) -> dict[str, float | str]:
    frames = [0] if labelled == 1 else np.linspace(0, len(clip.truth) - 1, labelled).round().astype(int).tolist()
    support = clip.support(frames)
    began = time.process_time()
    choice: Choice = select(support, available(support), budget_s=budget_s)
    select_s = time.process_time() - began
    tests = [f for f in range(3, len(clip.truth), step) if f not in frames]
    truths = [clip.truth[f] for f in tests]
    images = [clip.source.read(f) for f in tests]
    pictures = [support.picture(n) for n in range(len(frames))]
    values: dict[str, float] = {}
    known = {candidate.name: candidate for candidate in available(support)}
    for score in choice.scores:
        candidate = known.get(score.name)
        if candidate is None or score.state != "tried" or score.f1 == 0:
            continue
        detector = make(candidate, pictures, clip.classes)
        names = detector.card.classes
        table = np.array(
            [
                n if candidate.kind == "exemplar" else
                clip.classes.index(score.mapping[name]) if name in score.mapping else -1
                for n, name in enumerate(names)
            ]
        )  # fmt: skip
        thresholds = [score.classes[name].threshold if name in score.classes else 0.5 for name in clip.classes]
        if detector.card.temporal:
            found = []
            for frame in tests:
                fresh = make(candidate, pictures, clip.classes)
                found.append(fresh.detect([clip.source.read(n) for n in range(max(0, frame - 6), frame + 1)])[-1])
        else:
            found = detector.detect(images)
        values[score.name] = f1([mapped(one, table) for one in found], truths, thresholds)
    plan = make_plan(support, choice)
    selected = f1(plan.pictures().detect(images), truths, [0.5] * len(clip.classes)) if not any(
        c.name == "motion" for c in choice.candidates
    ) else values.get("motion", 0.0)  # fmt: skip
    began = time.process_time()
    whole = {} if selection else hota(clip, label_clip(clip, plan, support))
    run_s = time.process_time() - began
    best = max(values, key=lambda name: values[name])
    return {
        "clip": clip.name, "labelled": labelled, "selected": choice.names, "F1": selected, "best": best,
        "best F1": values[best], "share": selected / max(values[best], 1e-9), **whole, "every": plan.every,
        "select s": select_s, "ms/frame": 1000 * run_s / len(clip.truth), "each": json.dumps({k: round(v, 3) for k, v in values.items()}),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--labelled", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--step", type=int, default=8, help="every so-manieth frame is a test picture")
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument("--clips", nargs="*", help="of the real clips only these")
    parser.add_argument("--frames", type=int, default=100, help="of a real clip at most")
    parser.add_argument("--selection", action="store_true", help="choose only, label no whole clip")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clips = [synthetic(chosen.first + n, Path(name)) for n in range(chosen.seeds)]
        clips += real(chosen.frames, chosen.clips) if chosen.real else []
        rows = []
        for clip in clips:
            for labelled in chosen.labelled:
                row = measure(clip, labelled, chosen.budget, chosen.step, chosen.selection)
                rows.append(row)
                shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
                print(json.dumps(shown), flush=True)
    for key in ("F1", "share") if chosen.selection else ("F1", "share", "HOTA"):
        print(f"mean {key}: {np.mean([row[key] for row in rows]):.3f}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
