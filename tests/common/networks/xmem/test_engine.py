"""XMem's engine: late and removed objects stay apart, labelled frames stay known, half precision stays close."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.networks.seeding import fill
from common.networks.xmem.blocks import ResidualBlock
from common.networks.xmem.engine import Engine, EngineSettings
from common.networks.xmem.memory import MemorySettings
from common.networks.xmem.network import Sizes, XMem, convert
from common.networks.xmem.pictures import Frame, by_short_side
from tests.contract.clips import clip, scene

TINY = Sizes(key=16, value=32, hidden=8, width=8, key_blocks=(1, 1, 1), value_blocks=(1, 1, 1))
FRAME = Frame((72, 96), (72, 96))
SHORT = EngineSettings(1, memory=MemorySettings(working_frames=4, kept_frames=2, prototypes=20, long_tokens=60))
IMAGES = [torch.from_numpy(np.array(image)) for image in clip(3, 10, 96, 72, 2)]
MASKS = torch.from_numpy(np.array([o.mask for o in scene(3, 10, 96, 72, 2).truth(0).objects]))


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits, and the machine has other tests to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(sizes: Sizes = TINY) -> XMem:
    made = XMem(sizes)
    fill(made)
    return made.eval()


def engine(settings: EngineSettings = SHORT, net: XMem | None = None) -> Engine:
    return Engine(net or network(), settings, FRAME)


def test_joined_features_are_computed_in_parts():
    block = ResidualBlock(7, 4)
    fill(block)
    x, g = torch.randn(1, 5, 6, 8), torch.randn(3, 2, 6, 8)
    torch.testing.assert_close(block.joined(x, g), block(torch.cat([x.expand(3, -1, -1, -1), g], 1)))


def test_a_late_object_keeps_its_own_first_frame():
    """Its group's memory is what it would be if the clip began where it was labelled: the official code mixes them up."""
    both, late = engine(), engine()
    both.step(IMAGES[0], MASKS[:1], [0])
    for image in IMAGES[1:3]:
        both.step(image)
    both.step(IMAGES[3], MASKS[1:], [1])
    late.step(IMAGES[3], MASKS[1:], [1])
    for image in IMAGES[4:10]:
        both.step(image)
        late.step(image)
    assert both.objects == (0, 1)
    ours, alone = both._banks[1], late._banks[0]
    assert ours.working_tokens == alone.working_tokens
    work = slice(ours._long_room, ours._long_room + ours.working_tokens)
    assert torch.equal(ours._key[work], alone._key[work])


def test_removed_objects_are_forgotten():
    made = engine()
    made.step(IMAGES[0], MASKS, [5, 7])
    made.step(IMAGES[1])
    made.remove([5])
    assert made.objects == (7,) and made.hidden.shape[0] == 1
    assert made.step(IMAGES[2]).shape == (2, 72, 96)
    made.step(IMAGES[3], MASKS[:1], [5])
    made.remove([7])
    assert len(made._banks) == 1 and made.step(IMAGES[4]).shape == (2, 72, 96)


def test_a_correction_is_taken_as_drawn():
    made = engine()
    made.step(IMAGES[0], MASKS, [0, 1])
    wanted = torch.roll(MASKS[0], 9, 1)
    maps = made.step(IMAGES[1], wanted[None], [0])
    assert torch.equal(maps.argmax(0) == 1, wanted)


def test_kept_pictures_change_what_follows_but_not_time():
    settings = EngineSettings(5, memory=MemorySettings(extra_frames=1))
    plain, taught = engine(settings), engine(settings)
    for made in (plain, taught):
        made.step(IMAGES[0], MASKS, [0, 1])
    hidden = taught.hidden.clone()
    taught.keep_for_ever(IMAGES[8], MASKS[1:].roll(5, 2), [1])
    assert torch.equal(taught.hidden, hidden) and taught.tokens[0] == 2 * plain.tokens[0]
    assert not torch.equal(plain.step(IMAGES[1]), taught.step(IMAGES[1]))
    with pytest.raises(ValueError, match="permanent"):
        taught.keep_for_ever(IMAGES[8], MASKS, [0, 1])


def test_half_precision_stays_close():
    half = network().half()
    made = {net.dtype: Engine(net, SHORT, FRAME) for net in (network(), half)}
    for t, image in enumerate(IMAGES):
        a, b = (e.step(image, *((MASKS, [0, 1]) if t == 0 else ())) for e in made.values())
        assert a.dtype == b.dtype == torch.float32
        assert (a - b).abs().mean() < 0.02


def test_the_variant_without_sensory_memory_runs():
    made = engine(net=network(Sizes(16, 32, 0, 8, (1, 1, 1), (1, 1, 1))))
    made.step(IMAGES[0], MASKS, [0, 1])
    assert made.step(IMAGES[1]).isfinite().all()


def test_sizes_are_read_from_a_checkpoint():
    for sizes in (Sizes(), Sizes(32, 256, 0)):
        with torch.device("meta"):
            assert Sizes.of(XMem(sizes).state_dict()) == sizes


def test_single_object_checkpoints_get_a_channel():
    name = "value_encoder.conv1.weight"
    stem = convert({name: torch.ones(64, 4, 7, 7)})[name]
    assert stem.shape == (64, 5, 7, 7) and not stem[:, 4].any() and stem[:, :4].all()


@pytest.mark.parametrize(
    ("height", "width", "side", "expected"),
    [(100, 150, 90, (90, 135)), (150, 100, 90, (135, 90)), (100, 150, -1, (100, 150)), (1080, 1920, 480, (480, 853))],
)
def test_short_side(height, width, side, expected):
    assert by_short_side(height, width, side) == expected


def test_a_thin_mask_survives_a_smaller_working_size():
    frame = Frame((400, 400), (100, 100))
    masks = torch.zeros(2, 400, 400, dtype=torch.bool)
    masks[0, 3, 3] = masks[1, 40:80, 40:80] = True
    scaled = frame.unpad(frame.masks(masks, torch.device("cpu")))
    assert scaled.sum((1, 2)).tolist() == [1, 100]


def test_labels_are_the_largest_channel():
    frame = Frame((50, 70), (30, 40))
    maps = torch.softmax(torch.randn(5, 30, 40), 0)
    label, value = frame.labels(maps)
    full = frame.restore(maps)
    assert torch.equal(label.long(), full.argmax(0)) and torch.equal(value, full.amax(0))
