"""Cutie behind the contract: a small network of the same classes with seeded weights, and the package's defects mended."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import EngineUnavailable, WeightsMissing
from common.geometry.types import Mask
from common.networks.seeding import fill
from common.networks.xmem.pictures import Frame
from common.trackers.masks.cutie import CutieTracker
from common.trackers.masks.cutie_engine import CutieEngine, CutieSettings
from common.trackers.masks.cutie_network import build, constants, convert
from common.trackers.masks.xmem_maps import VosSettings
from common.tracking.contract import Exemplar, Prompt
from common.tracking.snapshot import pack, unpack
from common.weights.options import EngineOptions
from common.weights.store import FOLDER, MIRROR
from tests.contract.checks import CHECKS
from tests.contract.clips import clip, fingerprint, play, prompts, scene

TINY = {
    "pixel_encoder": {"type": "resnet18", "ms_dims": [256, 128, 64]},
    "pixel_dim": 16,
    "key_dim": 16,
    "value_dim": 16,
    "sensory_dim": 16,
    "embed_dim": 16,
    "mask_encoder": {"final_dim": 256},
    "object_transformer": {"embed_dim": 16, "ff_dim": 32, "num_heads": 2, "num_blocks": 1},
    "mask_decoder": {"up_dims": [16, 8, 8]},
}
SEEDED = EngineOptions(weights="seeded", device="cpu")
NEEDS_TRAINING = {
    "follows_an_easy_object",
    "follows_an_easy_object_backward",
    "notices_that_the_object_has_left",
}
"""What no network can do with weights that were never trained."""
IMAGES = [torch.from_numpy(np.array(image)) for image in clip(3, 10, 96, 72, 2)]
MASKS = torch.from_numpy(np.array([o.mask for o in scene(3, 10, 96, 72, 2).truth(0).objects]))


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits, and the machine has other tests to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@lru_cache(maxsize=1)
def seeded() -> nn.Module:
    """Building the package's network takes a second; the tests share one, as runs of one tracker do."""
    made = build(TINY)
    fill(made, constants(made))
    return made.requires_grad_(False)


def tiny(**settings: int) -> CutieTracker:
    made = CutieTracker("cutie", SEEDED, VosSettings(**settings), TINY)
    made._network = seeded()
    return made


@pytest.fixture
def network():
    return seeded()


def engine(network, **settings) -> CutieEngine:
    return CutieEngine(network, CutieSettings(memory_every=1, **settings), Frame((72, 96), (72, 96)))


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ not in NEEDS_TRAINING], ids=lambda c: c.__name__)
def test_contract(check):
    check(tiny, "mask")


def test_the_published_network_fulfils_the_contract_too():
    images, drawn = clip(3, 10, 96, 72, 2)[:4], prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    run = CutieTracker("cutie", SEEDED).start(images[0], drawn)
    run.push(images[1])
    resumed = CutieTracker("cutie", SEEDED).load(run.save())
    rest = [[r.push(image)[0] for image in images[2:]] for r in (run, resumed)]
    assert fingerprint(rest[0]) == fingerprint(rest[1])


def test_nothing_is_fetched_to_build_it(monkeypatch):
    from torch.utils import model_zoo

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it reaches for the network")

    monkeypatch.setattr(model_zoo, "load_url", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    build(TINY)


def test_after_a_removal_the_others_keep_their_own_last_mask(network):
    made = engine(network)
    made.step(IMAGES[0], MASKS, [4, 9])
    made.step(IMAGES[1])
    last = made.core.last_mask.clone()
    made.remove([4])
    assert made.objects == (9,) and torch.equal(made.core.last_mask, last[:, 1:])
    assert made.step(IMAGES[2]).shape == (2, 72, 96)


def test_an_id_used_again_begins_anew(network):
    made, fresh = engine(network), engine(network)
    made.step(IMAGES[0], MASKS[:1], [1])
    made.remove([1])
    made.step(IMAGES[3], MASKS[1:], [1])
    fresh.step(IMAGES[3], MASKS[1:], [1])
    assert torch.equal(made.core.memory.obj_v[1], fresh.core.memory.obj_v[1])


def test_late_objects_get_memory_of_their_own_and_memory_stays_bounded(network):
    made = engine(network, working=4, kept=2, prototypes=20, long_tokens=90, buffer=10)
    made.step(IMAGES[0], MASKS[:1], [1])
    made.step(IMAGES[1])
    made.step(IMAGES[2], MASKS[1:], [2])
    assert made.objects == (1, 2) and len(made.core.memory.work_mem.buckets) == 2
    sizes = []
    for number in range(24):
        assert made.step(IMAGES[number % 10]).shape == (3, 72, 96)
        sizes.append(made.tokens)
    work, long = (max(column) for column in zip(*sizes, strict=True))
    tokens = 5 * 6
    assert work <= 2 * 4 * tokens and 90 < long <= 2 * 90


@pytest.mark.parametrize("ids", [[1], [2], [2, 1]])
def test_a_correction_is_taken_as_drawn_and_kept(network, ids):
    made = engine(network)
    made.step(IMAGES[0], MASKS, [1, 2])
    tokens, time = made.tokens[0], made.core.curr_ti
    wanted = torch.roll(MASKS[: len(ids)], 9, 2)
    wanted[1:] &= ~wanted[0]
    maps = made.step(IMAGES[1], wanted, ids)
    for mask, i in zip(wanted, ids, strict=True):
        assert torch.equal(maps.argmax(0) == i, mask)
    last = made.core.last_mask
    made.keep_for_ever(IMAGES[5], wanted, ids)
    assert made.core.last_mask is last and made.core.curr_ti == time + 1
    assert made.tokens[0] == tokens + 2 * 30 and made.core.memory.work_mem.perm_end_pt[0] == 60


def test_exemplars_are_learned_from_within_their_budget():
    images = clip(3, 10, 96, 72, 2)
    drawn = prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    many = [Exemplar(images[i], prompts(scene(3, 10, 96, 72, 2).truth(i), "mask")[:1]) for i in range(3, 10)]
    sizes = [len(tiny(exemplars=2).start(images[0], drawn, e).save()) for e in ([], many[:1], many[:2], many)]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3]


def test_masks_never_overlap():
    images, drawn = clip(11, 6, 160, 120, 5), prompts(scene(11, 6, 160, 120, 5).truth(0), "mask")
    found = 0
    for frame in play(tiny(), images, drawn)[1:]:
        arrays = [p.geometry.to_array() for p in frame if isinstance(p.geometry, Mask)]
        found += len(arrays)
        assert np.sum(arrays, axis=0).max(initial=0) <= 1
    assert found, "seeded weights find something, or this tests nothing"


def test_an_exemplar_may_lack_objects_and_be_larger():
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    other = Exemplar(clip(5, 2, 160, 120)[0], [Prompt(drawn[1].key, Mask.from_array(np.zeros((120, 160), bool)))])
    assert len(tiny().start(images[0], drawn, [other]).push(images[1])[0]) == 2


def test_a_checkpoint_of_that_layout_is_read(tmp_path, network):
    entries = {n: v for n, v in network.state_dict().items() if not n.startswith("aux_computer.")}
    torch.save(entries, tmp_path / "cutie.pth")
    images, drawn = clip(3, 10, 96, 72, 2)[:5], prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    from_file = CutieTracker("cutie", EngineOptions(str(tmp_path / "cutie.pth"), "cpu"), None, TINY)
    assert fingerprint(play(from_file, images, drawn)) == fingerprint(play(tiny(), images, drawn))


def test_single_object_checkpoints_get_a_channel():
    made = convert(
        {
            "mask_encoder.conv1.weight": torch.ones(64, 4, 7, 7),
            "pixel_fuser.sensory_compress.weight": torch.ones(256, 257, 1, 1),
        }
    )
    assert made["mask_encoder.conv1.weight"].sum((0, 2, 3)).tolist() == [64 * 49.0] * 4 + [0.0]
    assert made["pixel_fuser.sensory_compress.weight"].shape == (256, 258, 1, 1)


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
    with pytest.raises(WeightsMissing, match=r"python -m apps models download cutie\b"):
        CutieTracker("cutie", EngineOptions(device="cpu"), None, TINY).start(image, drawn)


def test_choosing_it_does_not_load_torch():
    code = "import sys; from common.trackers.registry import make; make('cutie').card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_package_is_told_with_the_command(monkeypatch):
    for name in ("cutie", "cutie.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineUnavailable, match="pip install rf-cutie"):
        build(TINY)
