"""Built-in mask tracker: optical flow, a per-object appearance model and boundary refinement. Needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.types import Mask
from common.trackers.masks.appearance import Evidence, solve
from common.trackers.masks.recovery import Memory, Recovery
from common.trackers.masks.settings import FlowSettings
from common.trackers.masks.target import Candidate, Judge, Segmenter, Target
from common.trackers.masks.windows import Window
from common.tracking.contract import Exemplar, Prediction, Prompt, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image


class FlowTracker:
    """Mask tracker for any number of objects that never overlap. Deterministic; runs on the CPU.

    settings: see `FlowSettings`. judge: weighs the clues instead of fixed numbers.
    """

    card = TrackerCard(
        name="flow",
        title="Optical flow and appearance (no weights)",
        geometries=frozenset({"mask"}),
        licence="Apache-2.0",
        memory_bound="one picture, and per object its mask and four sums of fixed size",
        paper="https://arxiv.org/abs/1603.03590",
    )

    def __init__(self, settings: FlowSettings | None = None, judge: Judge | None = None) -> None:
        self._segmenter = Segmenter(settings or FlowSettings(), judge)
        self._recovery = Recovery()

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> FlowRun:
        """Begin on `image`. Raises `PromptInvalid` for an empty mask or one of another picture's size.

        Exemplars are learned from once; objects they do not show (empty masks) are taken from the prompt alone.
        """
        masks = [_checked(prompt, image) for prompt in prompts]
        pixels = _share(self._segmenter.settings, len(masks))
        targets = []
        for prompt, mask in zip(prompts, masks, strict=True):
            lessons = [self._segmenter.learn(image, mask, pixels)]
            for exemplar in exemplars:
                for other in exemplar.prompts:
                    shown = other.key == prompt.key and isinstance(other.geometry, Mask) and other.geometry.area > 0
                    if shown:
                        lessons.append(self._segmenter.learn(exemplar.image, _checked(other, exemplar.image), pixels))
            anchor = lessons[0]
            for number, lesson in enumerate(lessons[1:], 2):
                anchor = anchor.mixed(lesson, 1 / number, 1 / number)
            first = solve(anchor, self._segmenter.settings.ridge)
            view = self._segmenter.window(mask, pixels)
            moved = np.zeros((view.height, view.width), np.float32)
            judge = self._segmenter.judge
            targets.append(
                Target(
                    mask=mask,
                    anchor=anchor,
                    first=first,
                    recent=lessons[0],
                    area=float(mask.area),
                    usual=float(mask.area),
                    view=view,
                    moved=moved,
                    memory=self._recovery.learn(image, mask),
                    shown=None if judge is None else judge.keep(image, mask),
                )
            )
        return FlowRun(self._segmenter, self._recovery, [p.key for p in prompts], targets, image.copy(), 0)

    def load(self, state: bytes) -> FlowRun:
        """A run from `FlowRun.save`. Raises ValueError when the bytes are not a whole snapshot."""
        tree = unpack(state)
        targets = [
            Target(
                mask=_mask(t["mask"], t["runs"]),
                anchor=Evidence(*t["anchor"]),
                first=t["first"],
                recent=Evidence(*t["recent"]),
                area=t["area"],
                usual=t["usual"],
                view=Window(*t["view"]),
                moved=t["moved"],
                memory=Memory(*t["memory"]),
                missing=t["missing"],
                shown=t.get("shown"),  # older snapshots know of no judge
            )
            for t in tree["targets"]
        ]
        return FlowRun(self._segmenter, self._recovery, tree["keys"], targets, tree["image"], tree["frame"])


class FlowRun:
    """One tracking in progress. Online: every pushed image becomes final at once."""

    def __init__(
        self,
        segmenter: Segmenter,
        recovery: Recovery,
        keys: list[str],
        targets: list[Target],
        image: Image,
        frame: int,
    ) -> None:
        self._segmenter = segmenter
        self._recovery = recovery
        self._keys = keys
        self._targets = targets
        self._image = image
        self._frame = frame

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, the size of the first; ValueError if not. Gives exactly one frame."""
        if image.shape != self._image.shape:
            raise ValueError(f"expected a picture of shape {self._image.shape}, got {image.shape}")
        self._frame += 1
        pixels = _share(self._segmenter.settings, len(self._targets))
        found = [self._find(target, image, pixels) for target in self._targets]
        masks = compete(found, image.shape[:2])
        predictions = []
        for number, (candidate, mask) in enumerate(zip(found, masks, strict=True)):
            target = self._targets[number]
            if candidate is None or not self._plausible(target, candidate, mask):
                self._targets[number] = replace(target, missing=target.missing + 1)
                predictions.append(Prediction(self._keys[number], None, 0.0, False))
            else:
                self._targets[number] = self._segmenter.update(target, candidate, mask, self._frame)
                predictions.append(Prediction(self._keys[number], mask, candidate.score, True))
        self._image = image.copy()
        return [predictions]

    def _find(self, target: Target, image: Image, pixels: int) -> Candidate | None:
        """Follow the object; where it is lost or little of it is left, look for it elsewhere too."""
        followed = None
        if target.missing == 0:
            followed = self._segmenter.find(target, self._image, image, pixels)
            if followed.area > self._segmenter.settings.remnant * target.usual:
                return followed
        rough = self._recovery.find(target.memory, target.mask, target.missing, image)
        if rough is None:
            return followed
        again = self._segmenter.find_again(target, rough, image, pixels)
        if followed is None or again.merit(target.usual) > 1.3 * followed.merit(target.usual):
            return again
        return followed

    def _plausible(self, target: Target, candidate: Candidate, mask: Mask) -> bool:
        """Is this still the object? Asked more strictly of one that was lost than of one that was followed."""
        s = self._segmenter.settings
        if target.missing == 0:
            return mask.area > s.collapse * target.area and candidate.alike > s.doubt
        return 0.2 * target.usual < mask.area < 4 * target.usual and candidate.alike > s.doubt + 0.3

    def flush(self) -> list[list[Prediction]]:
        """Nothing is ever held back."""
        return []

    def save(self) -> bytes:
        """Bounded snapshot: one picture and the objects' states."""
        targets = [
            {
                "mask": [t.mask.height, t.mask.width, t.mask.x, t.mask.y, *t.mask.window],
                "runs": t.mask.runs,
                "anchor": [t.anchor.gram, t.anchor.target],
                "recent": [t.recent.gram, t.recent.target],
                "area": t.area,
                "view": [t.view.x0, t.view.y0, t.view.x1, t.view.y1, t.view.width, t.view.height],
                "moved": t.moved,
                "first": t.first,
                "usual": t.usual,
                "memory": [t.memory.weights, t.memory.side, t.memory.bar],
                "missing": t.missing,
                "shown": t.shown,
            }
            for t in self._targets
        ]
        return pack({"keys": self._keys, "image": self._image, "frame": self._frame, "targets": targets})


def compete(found: Sequence[Candidate | None], frame: tuple[int, ...]) -> list[Mask]:
    """Masks of all objects: a pixel goes to the object most sure of it, so none overlap. frame: (height, width)."""
    labels = [None if c is None else c.label.copy() for c in found]
    for i, first in enumerate(found):
        for j in range(i + 1, len(found)):
            second = found[j]
            if first is None or second is None:
                continue
            a, b = first.window, second.window
            x0, y0, x1, y1 = max(a.x0, b.x0), max(a.y0, b.y0), min(a.x1, b.x1), min(a.y1, b.y1)
            if x0 >= x1 or y0 >= y1:
                continue
            ours, theirs = labels[i], labels[j]
            assert ours is not None and theirs is not None
            mine = ours[y0 - a.y0 : y1 - a.y0, x0 - a.x0 : x1 - a.x0]
            other = theirs[y0 - b.y0 : y1 - b.y0, x0 - b.x0 : x1 - b.x0]
            wins = mine >= other
            other[wins] = 0
            mine[~wins] = 0
    masks = []
    for candidate, label in zip(found, labels, strict=True):
        if candidate is None or label is None:
            masks.append(Mask.from_array(np.zeros((1, 1), bool)))
            continue
        local = Mask.from_array(label > 0.5)
        height, width = frame[:2]
        x, y = (local.x + candidate.window.x0, local.y + candidate.window.y0) if local.area else (0, 0)
        masks.append(Mask(height, width, x, y, local.window, local.runs))
    return masks


def _checked(prompt: Prompt, image: Image) -> Mask:
    mask = prompt.geometry
    if not isinstance(mask, Mask):
        raise PromptInvalid(
            f"Object {prompt.key!r}: this tracker follows masks; draw a mask or choose another tracker."
        )
    if (mask.height, mask.width) != image.shape[:2]:
        height, width = image.shape[:2]
        raise PromptInvalid(
            f"Object {prompt.key!r}: the mask is {mask.width}x{mask.height} pixels but the frame is {width}x{height}."
        )
    if mask.area == 0:
        raise PromptInvalid(f"Object {prompt.key!r}: the mask is empty; paint the object on the first frame.")
    return mask


def _mask(numbers: Sequence[int], runs: NDArray[np.uint32]) -> Mask:
    height, width, x, y, rows, columns = numbers
    return Mask(height, width, x, y, (rows, columns), runs)


def _share(settings: FlowSettings, objects: int) -> int:
    """Working pixels for each object: less when there are many, so that time grows slower than their number."""
    return max(8_000, int(settings.window_pixels / max(1, objects) ** 0.75))
