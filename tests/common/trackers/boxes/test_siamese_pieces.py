"""On a CPU the objects of a frame go through the box networks two by two: with the same boxes as all in one batch."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tests.common.trackers.boxes.siamese_tools import CONFIGS, tiny
from tests.contract.clips import clip, play, prompts, scene

MODULES = {"mixformer": "mixformer", "mixformer-convmae-l": "mixformer", "mixformerv2-s": "mixformer"}


@pytest.mark.parametrize("name", CONFIGS)
def test_pieces_are_as_one_batch(name, monkeypatch):
    images, drawn = clip(3, 6, 160, 120, 5), prompts(scene(3, 6, 160, 120, 5).truth(0), "box")
    module = importlib.import_module(f"common.trackers.boxes.{MODULES.get(name, name)}_run")
    sizes = []

    def all_together(count, device):
        sizes.append(count)
        return [slice(0, count)]

    apart = play(tiny(name), images, drawn)
    monkeypatch.setattr(module, "pieces", all_together)
    together = play(tiny(name), images, drawn)
    assert set(sizes) == {5}
    for frame, other in zip(apart, together, strict=True):
        for one, two in zip(frame, other, strict=True):
            assert (one.geometry is None) == (two.geometry is None)
            assert one.score == pytest.approx(two.score, abs=1e-4)
            if one.geometry is not None:
                np.testing.assert_allclose(one.geometry.xyxy, two.geometry.xyxy, atol=0.05)
