"""Another detector, or another threshold, for scenes where the one that is best over all is clearly worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from common.labeling import counting
from common.labeling.chosen import MIDDLE, Rule, fused
from common.labeling.scenes import Float, groups, look, middle
from common.labeling.scoring import Tried
from common.labeling.trials import TestPicture

_LEAST = 3
"""Labelled objects of a class in a scene, from which it is measured there by itself."""
_MADE = ("carried", "changed copy", "the labelled picture")
"""What is told of tests that were made of a picture."""


def of_scenes(
    classes: Sequence[str],
    tried: Sequence[Tried],
    used: Sequence[Tried],
    rules: Sequence[Rule],
    place: Callable[[Tried], int],
    needed: Callable[[int], float],
) -> tuple[list[Float], list[Rule], list[str]]:
    """Looks of the scenes, rules for single ones, and sentences for people; nothing where all labelled pictures are of one
    scene, or nothing is gained. used: what `rules` refers to. place: number of what is used besides. needed: F1 that must be
    gained, by how many objects it is measured on."""
    whole = [one for one in tried if one.tests == tried[0].tests]
    tests = whole[0].tests
    # only what people labelled themselves: what was made of one picture is of its scene
    if len({_picture(test) for test in tests}) < 2 or any(made in test.about for test in tests for made in _MADE):
        return [], [], []
    looks = [look(test.read()) for test in tests]
    scene_of = np.array(groups(looks))
    count = int(scene_of.max()) + 1
    if count < 2:
        return [], [], []
    made: list[Rule] = []
    told: list[str] = []
    for scene in range(count):
        mine = np.flatnonzero(scene_of == scene).tolist()
        for rule in rules:
            members = [used[m] for m in rule.members]
            if any(member.tests != tests for member in members):
                continue
            truths = [tests[n].truth for n in mine]
            now = [fused([member.found[n] for member in members], rule) for n in mine]
            have = counting.at([counting.hits(f, t, rule.label) for f, t in zip(now, truths, strict=True)], MIDDLE)
            if have.wanted < _LEAST:
                continue
            rates = [
                counting.best([counting.hits(one.found[n], tests[n].truth, rule.label) for n in mine]) for one in whole
            ]
            best = int(np.argmax([r.f1 for r in rates]))
            if rates[best].f1 < have.f1 + needed(have.wanted):
                continue
            made.append(Rule(rule.label, (place(whole[best]),), (rates[best].threshold,), scene=scene))
            frame = tests[mine[0]].frame
            like = f"frame {frame}" if frame is not None else f"{len(mine)} of the {len(tests)} labelled ones"
            told.append(
                f"on pictures like {like}, {classes[rule.label]} by {whole[best].score.title} "
                f"(F1 {rates[best].f1:.2f} instead of {have.f1:.2f})"
            )
    known = [middle([looks[n] for n in np.flatnonzero(scene_of == scene)]) for scene in range(count)] if made else []
    return known, made, told


def _picture(test: TestPicture) -> tuple[int, int]:
    """Which one it is: a frame of a video, or a picture of its own."""
    return (-1, id(test.read)) if test.frame is None else (test.frame, id(test.source))
