"""The box networks behind the contract: small networks of the same classes with seeded weights."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from common.errors import WeightsMissing
from common.geometry.types import Box, OrientedBox
from common.trackers import registry
from common.trackers.boxes.learned import LEARNED
from common.tracking.contract import Exemplar, Prompt
from common.weights.options import EngineOptions
from common.weights.store import FOLDER, MIRROR
from tests.common.trackers.boxes.siamese_tools import CONFIGS, SEEDED, tiny
from tests.contract.checks import CHECKS
from tests.contract.clips import clip, fingerprint, play, prompts, scene

NEEDS_TRAINING = {
    "follows_an_easy_object",
    "follows_an_easy_object_backward",
    "notices_that_the_object_has_left",
}
"""What no network can do with weights that were never trained."""

NETWORKS = [name for name in LEARNED if name not in ("vittrack", "nanotrack")]


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ not in NEEDS_TRAINING], ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    ("name", "kind"), [("mixformer", "box"), ("mixformerv2-s", "oriented_box"), ("transt", "box"), ("mcitrack", "box")]
)
def test_contract(name, kind, check):
    check(partial(tiny, name), kind)


@pytest.mark.parametrize("name", CONFIGS)
def test_missing_weights_are_told_with_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(MIRROR, raising=False)
    with pytest.raises(WeightsMissing, match=rf"python -m apps models download {name}\b"):
        tiny(name, EngineOptions(device="cpu")).start(clip(5, 8)[0], prompts(scene(5, 8).truth(0), "box"))


def test_choosing_one_does_not_load_torch():
    code = (
        "import sys; from common.trackers.registry import make; "
        f"[make(n).card for n in {NETWORKS}]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_an_oriented_box_keeps_its_size(name):
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), "oriented_box")
    for frame in play(tiny(name), images, drawn):
        for prompt, given in zip(drawn, frame, strict=True):
            if given.geometry is not None:
                assert np.array_equal(given.geometry.cxcywh[2:], prompt.geometry.cxcywh[2:])


@pytest.mark.parametrize("name", CONFIGS)
def test_an_exemplar_changes_what_is_looked_for_where_the_network_takes_several(name):
    images, made = clip(3, 10, 96, 72, 2), scene(3, 10, 96, 72, 2)
    drawn = prompts(made.truth(0), "box")
    exemplar = Exemplar(images[8], prompts(made.truth(8), "box")[:1])
    stranger = Exemplar(images[4], [Prompt("somebody else", drawn[0].geometry)])
    outside = Exemplar(images[4], [Prompt(drawn[0].key, Box(np.array([900, 900, 950, 950], np.float32)))])
    plain, same, other = (
        [f for image in images[1:4] for f in tiny(name).start(images[0], drawn, given).push(image)]
        for given in ([], [stranger, outside], [exemplar])
    )
    assert fingerprint(plain) == fingerprint(same)
    assert (fingerprint(plain) == fingerprint(other)) == (name == "transt")


def test_objects_go_through_the_network_in_pieces(monkeypatch):
    from common.networks.mixformer import MixFormer

    sizes = []
    search = MixFormer.search
    monkeypatch.setattr(MixFormer, "search", lambda net, x, t: (sizes.append(len(x)), search(net, x, t))[1])
    images = clip(11, 3, 160, 120, 12, size=0.15)
    run = tiny("mixformer").start(images[0], prompts(scene(11, 3, 160, 120, 12, size=0.15).truth(0), "box"))
    run.push(images[1])
    run.push(images[2])
    assert sizes == [2] * 12  # twelve objects, two frames; see `pieces`


@pytest.mark.parametrize("name", CONFIGS)
def test_no_objects_are_fine(name):
    images = clip(5, 8)
    run = tiny(name).start(images[0], [])
    assert run.push(images[1]) == [[]]
    assert tiny(name).load(run.save()).push(images[2]) == [[]]


def test_a_state_of_another_tracker_is_refused():
    images = clip(5, 8)
    state = tiny("mixformer").start(images[0], prompts(scene(5, 8).truth(0), "box")).save()
    with pytest.raises(ValueError, match="transt"):
        tiny("transt").load(state)


@pytest.mark.slow
def test_a_published_size_resumes_exactly():
    images, made = clip(3, 10, 96, 72, 2), scene(3, 10, 96, 72, 2)
    drawn = [
        *prompts(made.truth(0), "box")[:1],
        Prompt("turned", OrientedBox(np.array([50, 40, 20, 9], np.float32), 0.6)),
    ]
    tracker = registry.make("mixformerv2-s", SEEDED)
    run = tracker.start(images[0], drawn)
    run.push(images[1])
    resumed = tracker.load(run.save())
    for image in images[2:4]:
        assert fingerprint(run.push(image)) == fingerprint(resumed.push(image))


def test_a_checkpoint_of_the_published_layout_is_read(tmp_path):
    import torch

    from common.networks.mixformer import CONSTANTS, UNUSED, MixFormer
    from common.networks.seeding import fill

    network = MixFormer(CONFIGS["mixformer"])
    fill(network, CONSTANTS)
    tensors = {**network.state_dict(), **{name: torch.zeros(2) for name in UNUSED}}
    torch.save({"net": tensors, "epoch": 500, "settings": None}, tmp_path / "net.pth.tar")
    images, drawn = clip(3, 10, 96, 72, 2)[:3], prompts(scene(3, 10, 96, 72, 2).truth(0), "box")
    read = tiny("mixformer", EngineOptions(str(tmp_path / "net.pth.tar"), "cpu"))
    assert fingerprint(play(read, images, drawn)) == fingerprint(play(tiny("mixformer"), images, drawn))
