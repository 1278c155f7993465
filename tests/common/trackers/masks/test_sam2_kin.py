"""EdgeTAM and the tracker of SAM 3 as trackers: the contract with small networks of the same classes."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import pytest
import torch

from common.errors import PromptInvalid, WeightsInvalid, WeightsMissing
from common.geometry.types import Mask, Points
from common.networks.sam2 import edgetam, sam3
from common.trackers import registry
from common.trackers.masks.edgetam import EdgeTamTracker
from common.trackers.masks.sam2 import Sam2Tracker
from common.trackers.masks.sam3 import Sam3Tracker
from common.tracking.contract import Exemplar, Prompt
from common.weights.entries import catalogue
from common.weights.options import EngineOptions
from tests.common.trackers.masks.test_sam2 import BOX_CHECKS, QUALITY, SURER, one_thread
from tests.contract.checks import CHECKS
from tests.contract.clips import clip, prompts, scene

__all__ = ["one_thread"]  # a fixture

SEEDED = EngineOptions(weights="seeded", device="cpu")
NAMES = ("edgetam", "sam3")
OF_RUNS = {
    "forgets_a_cancelled_run",
    "gives_as_many_frames_as_it_gets",
    "handles_the_shortest_clips",
    "keeps_runs_apart",
    "keeps_threads_apart",
    "leaves_the_callers_pictures_alone",
    "refuses_pictures_of_another_size",
    "refuses_prompts_that_cannot_be_tracked",
}
"""The runs are those of SAM 2, which fulfil these."""
CASES = [
    (name, kind, check)
    for name in NAMES
    for kind in ("mask", "box")
    for check in CHECKS
    if check.__name__ not in QUALITY | OF_RUNS and (kind == "mask" or check.__name__ in BOX_CHECKS)
]


def small(name: str) -> Sam2Tracker:
    if name == "edgetam":
        return EdgeTamTracker(name, SEEDED, sizes=edgetam.Sizes((8, 8, 8, 8), (1, 1, 1, 1), 64, 16, 64, 1))
    return Sam3Tracker(name, SEEDED, sizes=sam3.Sizes(16, 32, 2, 1, (0,), 4, 56, 56, 64, 1))


@lru_cache(maxsize=2)
def shared(name: str) -> Sam2Tracker:
    tracker = small(name)
    tracker.stream().model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(SURER)
    return tracker


def make(name: str) -> Sam2Tracker:
    tracker = small(name)
    tracker._stream = shared(name).stream()
    return tracker


@pytest.mark.parametrize(("name", "kind", "check"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_contract(name, kind, check):
    check(partial(make, name), kind)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_catalogue_says(name):
    card, weights = registry.make(name).card, catalogue().find(name)
    assert (card.weights, card.weights_licence, card.paper) == (name, weights.weights_licence, weights.paper)
    assert card.licence == weights.code_licence == "Apache-2.0"
    assert weights.gated == (name == "sam3")
    assert not weights.non_commercial


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_name_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    drawn = prompts(scene(3, 20, 96, 72, 3).truth(0), "mask")
    with pytest.raises(WeightsMissing, match=f"python -m apps models download {name}"):
        registry.make(name, EngineOptions()).start(clip(3, 20, 96, 72, 3)[0], drawn)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_network_is_refused(name, tmp_path):
    torch.save({"model": {"sam_prompt_encoder.weight": torch.zeros(3)}}, tmp_path / "other.pt")
    tracker = small(name)
    tracker.options = EngineOptions(weights=str(tmp_path / "other.pt"), device="cpu")
    with pytest.raises(WeightsInvalid, match=name):
        tracker.stream()


def test_points_are_refused():
    image = clip(3, 20, 96, 72, 3)[0]
    for name in NAMES:
        with pytest.raises(PromptInvalid):
            make(name).start(image, [Prompt("a", Points(np.zeros((1, 2), np.float32)))])


def test_sam_3_learns_from_three_exemplars_at_most():
    made, images = scene(3, 20, 96, 72, 3), clip(3, 20, 96, 72, 3)
    shown = [Exemplar(images[index], prompts(made.truth(index), "mask")) for index in (5, 9, 12, 15, 17)]
    run = make("sam3").start(images[0], prompts(made.truth(0), "mask"), shown)
    assert len(run._banks[0].elsewhere) == 3
    assert isinstance(prompts(made.truth(0), "mask")[0].geometry, Mask)
