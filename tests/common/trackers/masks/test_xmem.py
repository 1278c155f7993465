"""XMem behind the contract: a small network of the same classes with seeded weights."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from common.errors import WeightsMissing
from common.geometry.types import Mask
from common.networks.seeding import fill
from common.networks.xmem.network import Sizes, XMem
from common.trackers.masks.xmem import XMemTracker
from common.trackers.masks.xmem_maps import VosSettings
from common.tracking.contract import Exemplar, Prompt
from common.tracking.snapshot import pack, unpack
from common.weights.options import EngineOptions
from common.weights.store import FOLDER, MIRROR
from tests.contract.checks import CHECKS
from tests.contract.clips import clip, fingerprint, play, prompts, scene

TINY = Sizes(key=16, value=32, hidden=8, width=8, key_blocks=(1, 1, 1), value_blocks=(1, 1, 1))
SEEDED = EngineOptions(weights="seeded", device="cpu")
NEEDS_TRAINING = {
    "follows_an_easy_object",
    "follows_an_easy_object_backward",
    "notices_that_the_object_has_left",
}
"""What no network can do with weights that were never trained."""


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits, and the machine has other tests to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(**settings: int) -> XMemTracker:
    return XMemTracker("xmem", SEEDED, VosSettings(**settings), TINY)


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ not in NEEDS_TRAINING], ids=lambda c: c.__name__)
def test_contract(check):
    check(tiny, "mask")


def test_the_published_network_fulfils_the_contract_too():
    images, drawn = clip(3, 10, 96, 72, 2)[:4], prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    run = XMemTracker("xmem", SEEDED).start(images[0], drawn)
    run.push(images[1])
    resumed = XMemTracker("xmem", SEEDED).load(run.save())
    rest = [[r.push(image)[0] for image in images[2:]] for r in (run, resumed)]
    assert fingerprint(rest[0]) == fingerprint(rest[1])
    assert [p.key for p in rest[0][0]] == [p.key for p in drawn]


def test_masks_never_overlap_and_scores_are_their_probabilities():
    images, drawn = clip(11, 6, 160, 120, 5), prompts(scene(11, 6, 160, 120, 5).truth(0), "mask")
    found = 0
    for frame in play(tiny(), images, drawn)[1:]:
        arrays = [p.geometry.to_array() for p in frame if isinstance(p.geometry, Mask)]
        found += len(arrays)
        assert np.sum(arrays, axis=0).max(initial=0) <= 1
        assert all(1 / 6 <= p.score <= 1 for p in frame if p.geometry is not None)
    assert found, "seeded weights find something, or this tests nothing"


def test_exemplars_are_learned_from_within_their_budget():
    images = clip(3, 10, 96, 72, 2)
    drawn = prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    many = [Exemplar(images[i], prompts(scene(3, 10, 96, 72, 2).truth(i), "mask")[:1]) for i in range(3, 10)]
    sizes = []
    for exemplars in ([], many[:1], many[:2], many):
        run = tiny(exemplars=2).start(images[0], drawn, exemplars)
        sizes.append(len(run.save()))
        run.push(images[1])
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]


def test_an_exemplar_may_be_larger_than_the_clip_and_lack_objects():
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    other = Exemplar(clip(5, 2, 160, 120)[0], [Prompt(drawn[1].key, Mask.from_array(np.zeros((120, 160), bool)))])
    stranger = Exemplar(images[4], [Prompt("somebody else", drawn[0].geometry)])
    assert len(tiny().start(images[0], drawn, [other, stranger]).push(images[1])[0]) == 2


def test_large_pictures_are_worked_on_at_the_published_size():
    big, mask = np.zeros((200, 300, 3), np.uint8), np.zeros((200, 300), bool)
    big[60:120, 80:200] = mask[60:120, 80:200] = 200
    run = tiny(short_side=100).start(big, [Prompt("a", Mask.from_array(mask))])
    assert run._engine.tokens[0] == 7 * 10
    (given,) = run.push(big)
    assert given[0].geometry is None or (given[0].geometry.height, given[0].geometry.width) == (200, 300)


def test_a_checkpoint_of_that_layout_is_read(tmp_path):
    network = XMem(TINY)
    fill(network)
    torch.save(network.state_dict(), tmp_path / "XMem.pth")
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    from_file = XMemTracker("xmem", EngineOptions(str(tmp_path / "XMem.pth"), "cpu"), None, TINY)
    assert fingerprint(play(from_file, images, drawn)) == fingerprint(play(tiny(), images, drawn))


@pytest.mark.parametrize(
    "spoil", [lambda tree: {}, lambda tree: {**tree, "made_by": "another"}, lambda tree: {**tree, "working": [48, 48]}]
)
def test_snapshots_that_do_not_fit_are_refused(spoil):
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    state = pack(spoil(unpack(tiny().start(images[0], drawn).save())))
    with pytest.raises(ValueError, match="snapshot"):
        tiny().load(state)


def test_missing_weights_are_told_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(MIRROR, raising=False)
    image, drawn = clip(5, 8)[0], prompts(scene(5, 8).truth(0), "mask")
    with pytest.raises(WeightsMissing, match=r"python -m apps models download xmem\b"):
        XMemTracker("xmem", EngineOptions(device="cpu"), None, TINY).start(image, drawn)


def test_choosing_it_does_not_load_torch():
    code = "import sys; from common.trackers.registry import make; make('xmem').card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
