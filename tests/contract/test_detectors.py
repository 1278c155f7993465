"""Every detector fulfils every obligation of the contract: built-in ones as they are, networks with seeded weights in a
small configuration of the published classes (`tests/common/detection/test_<family>.py` has the published ones)."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from common.detection import registry
from common.detection.ensemble import Ensemble
from common.detection.learned import LEARNED
from common.errors import EngineUnavailable, WeightsMissing
from tests.contract.detectors import DETECTOR_CHECKS

MAKERS = {name: partial(registry.make, name) for name in ("motion", "hog")}
MAKERS["hog+hog"] = lambda: Ensemble([registry.make("hog"), registry.make("hog")])
MAKERS["motion+hog"] = lambda: Ensemble([registry.make("motion"), registry.make("hog")])


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MAKERS)
def test_contract(name, check):
    check(MAKERS[name])


@pytest.mark.parametrize("name", registry.names())
def test_cards_are_filled_in(name):
    card = registry.make(name).card
    assert card.name == name and card.title and card.memory_bound and card.paper and card.devices and card.licence
    assert (card.weights is None) == (card.weights_licence is None)


@pytest.mark.parametrize("name", [name for name in LEARNED if registry.make(name).card.weights is not None])
def test_missing_weights_name_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("VIDEO_TRACKING_OFFLINE", "0")
    with pytest.raises(WeightsMissing, match=f"python -m apps models download {registry.make(name).card.weights}"):
        registry.make(name).detect([np.zeros((32, 32, 3), np.uint8)])


def test_unknown_names_are_told():
    with pytest.raises(EngineUnavailable, match=r"no detector named 'nothing'.*motion"):
        registry.make("nothing")
    with pytest.raises(EngineUnavailable, match="no detector named 'nothing'"):
        registry.make("hog+nothing")


def test_making_needs_no_torch():
    """The command line lists them all; that must not take seconds."""
    code = (
        "import sys; from common.detection import registry; [registry.make(n) for n in registry.names()]; "
        "assert not {'torch', 'transformers', 'ultralytics', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
