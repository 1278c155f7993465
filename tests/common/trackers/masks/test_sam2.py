"""SAM 2 as a tracker: the contract with a small network of the same classes, and what is its own."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
import pytest
import torch

from common.errors import WeightsMissing
from common.geometry.types import Mask
from common.networks.sam2 import build
from common.networks.sam2.inputs import Clicks
from common.networks.sam2.memory import Bank
from common.networks.sam2.stream import Stream
from common.trackers import registry
from common.trackers.masks.sam2 import Sam2Settings, Sam2Tracker
from common.tracking.contract import Exemplar, Prompt
from common.weights.options import EngineOptions
from tests.contract.checks import CHECKS
from tests.contract.clips import clip, fingerprint, play, prompts, scene

SMALLEST = build.Sizes(24, 1, (1, 1, 2, 1), (3,), image=64, feed_forward=64, memory_layers=1)
SEEDED = EngineOptions(weights="seeded", device="cpu")
SURER = 0.7
QUALITY = {"follows_an_easy_object", "follows_an_easy_object_backward", "notices_that_the_object_has_left"}
"""Seeded weights know no objects."""


BOX_CHECKS = {
    "gives_sound_predictions",
    "handles_prompts_of_every_size",
    "refuses_prompts_that_cannot_be_tracked",
    "takes_exemplars",
    "resumes_from_a_snapshot_exactly",
}
"""A box differs from a mask where it comes in and where it goes out."""
CASES = [
    (kind, check)
    for kind in ("mask", "box")
    for check in CHECKS
    if check.__name__ not in QUALITY and (kind == "mask" or check.__name__ in BOX_CHECKS)
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So small a network is slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def shared() -> Sam2Tracker:
    """Seeded, but surer that the object is in the picture: otherwise it would hardly ever be."""
    tracker = Sam2Tracker(options=SEEDED, sizes=SMALLEST)
    tracker.stream().model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(SURER)
    return tracker


def make() -> Sam2Tracker:
    """A tracker of its own, with the weights of the shared one: reading them is tested elsewhere."""
    tracker = Sam2Tracker(options=SEEDED, sizes=SMALLEST)
    tracker._stream = shared().stream()
    return tracker


@pytest.mark.parametrize(("kind", "check"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_contract(kind, check):
    check(make, kind)


def test_seeded_weights_are_the_same_in_every_tracker():
    images, drawn = clip(3, 10, 96, 72, 2)[:3], prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    trackers = [Sam2Tracker(options=SEEDED, sizes=SMALLEST) for _ in range(2)]
    assert len({tuple(fingerprint(play(tracker, images, drawn))) for tracker in trackers}) == 1


def test_objects_are_seen_and_missed():
    """The tests above would say little if every object were always there, or never."""
    images, drawn = clip(3, 20, 96, 72, 3), prompts(scene(3, 20, 96, 72, 3).truth(0), "mask")
    seen = [p.visible for frame in play(make(), images, drawn)[1:] for p in frame]
    assert 0.2 < np.mean(seen) < 1.0


def test_missing_weights_are_told_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    drawn = prompts(scene(3, 10, 96, 72, 2).truth(0), "mask")
    with pytest.raises(WeightsMissing, match=r"models download sam2\.1-tiny"):
        Sam2Tracker().start(clip(3, 10, 96, 72, 2)[0], drawn)


def logits(stream: Stream, images, drawings, add=None):
    """Logits per frame and object. add: frame -> {place: drawing}, later objects or corrections."""
    banks = [Bank() for _ in range(len(drawings))]
    out = []
    with torch.inference_mode():
        for frame, image in enumerate(images):
            told = dict(enumerate(drawings)) if frame == 0 else (add or {}).get(frame, {})
            out.append(stream.step(stream.see(image), banks, frame, told, image.shape[:2]).logits[:, 0].numpy())
    return np.stack(out), banks


@pytest.fixture(scope="module")
def stream() -> Stream:
    return shared().stream()


@pytest.fixture(scope="module")
def drawings():
    return [p.geometry.to_array() for p in prompts(scene(3, 20, 96, 72, 3).truth(0), "mask")]


def test_objects_together_are_as_each_alone(stream, drawings):
    images = clip(3, 20, 96, 72, 3)
    together, _ = logits(stream, images, drawings)
    for place, drawing in enumerate(drawings):
        alone, _ = logits(stream, images, [drawing])
        np.testing.assert_allclose(together[:, place], alone[:, 0], atol=2e-4, rtol=1e-4)


def test_batches_of_any_size_agree(stream, drawings):
    images = clip(3, 20, 96, 72, 3)[:8]
    whole, _ = logits(stream, images, drawings)
    one_by_one, _ = logits(Stream(stream.model, 1), images, drawings)
    np.testing.assert_allclose(whole, one_by_one, atol=2e-4, rtol=1e-4)


def test_only_what_is_read_is_kept(stream, drawings):
    """Forgetting changes nothing: a run that keeps everything gives the same bytes."""
    images = clip(3, 20, 96, 72, 3) * 2
    pruned, banks = logits(stream, images, drawings[:1])
    assert sorted(banks[0].recent) == list(range(len(images) - 15, len(images)))
    assert sum(entry.tokens is not None for entry in banks[0].recent.values()) == 6
    assert list(banks[0].labelled) == [0]

    class Hoarder(Bank):
        def prune(self, frame, memories, pointers):
            pass

    bank = Hoarder()
    with torch.inference_mode():
        for frame, image in enumerate(images):
            told = {0: drawings[0]} if frame == 0 else {}
            found = stream.step(stream.see(image), [bank], frame, told, image.shape[:2])
            assert np.array_equal(found.logits[0, 0].numpy(), pruned[frame, 0])
    assert len(bank.recent) == len(images) - 1


def test_a_correction_becomes_a_labelled_frame(stream, drawings):
    images = clip(3, 20, 96, 72, 3)[:8]
    plain, _ = logits(stream, images, drawings[:2])
    corrected, banks = logits(stream, images, drawings[:2], {4: {0: drawings[2]}})
    assert list(banks[0].labelled) == [0, 4]
    assert np.array_equal(plain[:4], corrected[:4])
    assert not np.allclose(plain[5:, 0], corrected[5:, 0], atol=1e-3)
    np.testing.assert_allclose(plain[:, 1], corrected[:, 1], atol=2e-4, rtol=1e-4)


def test_clicks_and_boxes_are_prompts_too(stream):
    images = clip(3, 20, 96, 72, 3)[:3]
    box = Clicks.of_box(np.array((20, 10, 60, 50), np.float32))
    refined = Clicks.of_box(box.xy.ravel(), np.array([[40, 30]], np.float32), np.array([[22, 12]], np.float32))
    assert refined.labels.tolist() == [2, 3, 1, 0]
    found, _ = logits(stream, images, [box, refined, Clicks(np.array([[40, 30]], np.float32), np.array([1]))])
    assert found.shape[:2] == (3, 3)
    assert not np.allclose(found[0, 0], found[0, 1])


def test_exemplars_are_remembered_within_their_budget():
    made, images = scene(3, 20, 96, 72, 3), clip(3, 20, 96, 72, 3)
    drawn = prompts(made.truth(0), "mask")
    tracker = Sam2Tracker(options=SEEDED, sizes=SMALLEST, settings=Sam2Settings(exemplars=2))
    exemplars = [Exemplar(images[index], prompts(made.truth(index), "mask")) for index in (5, 9, 12, 17)]
    empty = Exemplar(images[3], [Prompt(drawn[0].key, Mask.from_array(np.zeros((72, 96), bool)))])
    few, many, none = (tracker.start(images[0], drawn, e) for e in (exemplars[:2], exemplars, [empty]))
    assert len(few.save()) == len(many.save()) > len(none.save())
    plain = tracker.start(images[0], drawn)
    assert fingerprint(plain.push(images[1])) == fingerprint(none.push(images[1]))


@pytest.mark.parametrize("name", [name for name in registry.names() if name.startswith("sam2")])
def test_published_sizes_have_the_published_parameters(name):
    """Millions of parameters as in the table of the official repository."""
    published = {"sam2.1-tiny": 38.9, "sam2.1-small": 46.0, "sam2.1-base-plus": 80.8, "sam2.1-large": 224.4}
    sizes = {"tiny": build.TINY, "small": build.SMALL, "base-plus": build.BASE_PLUS, "large": build.LARGE}
    with torch.device("meta"):
        model = build.build(sizes[name.removeprefix("sam2.1-")])
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert counted == pytest.approx(published[name], rel=0.005)


def test_making_one_imports_no_torch_and_takes_no_time():
    card = partial(registry.make, "sam2.1-large")().card
    assert card.weights == "sam2.1-large"
    assert card.geometries == {"mask", "box"}
