"""The smart tool with SAM 2: what is told to the network, and what is kept of a picture."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from common.networks.sam2 import build
from common.networks.sam2.decoding import Features
from common.networks.sam2.inputs import Clicks
from common.serving.smart_sam2 import Preferred, Sam2Segmenter
from common.serving.smart_tool import GrabCut, Hints
from common.trackers.masks.sam2 import Sam2Tracker
from common.weights.entries import catalogue
from common.weights.options import EngineOptions

SMALLEST = build.Sizes(24, 1, (1, 1, 2, 1), (3,), image=64, feed_forward=64, memory_layers=1)
CLICK = np.array([[40, 30]], np.float32)
ELSEWHERE = np.array([[70, 50]], np.float32)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (72, 96, 3), np.uint8)


class Counting(Sam2Segmenter):
    """Counts how often a picture is encoded."""

    def __init__(self, tracker: Sam2Tracker, pictures: int = 2) -> None:
        super().__init__(tracker, pictures)
        self.encoded = 0
        see = tracker.stream().see

        def counted(image: np.ndarray) -> Features:
            self.encoded += 1
            return see(image)

        object.__setattr__(tracker.stream(), "see", counted)


@pytest.fixture
def segmenter() -> Counting:
    return Counting(Sam2Tracker(options=EngineOptions(weights="seeded", device="cpu"), sizes=SMALLEST))


def test_a_picture_is_encoded_once_for_all_its_clicks(segmenter: Counting) -> None:
    image = picture(0)
    first = segmenter.segment(image, Hints((10, 5, 80, 60), CLICK))
    again = segmenter.segment(image.copy(), Hints((10, 5, 80, 60), CLICK))
    segmenter.segment(image, Hints((10, 5, 80, 60), CLICK, ELSEWHERE))
    assert first == again
    assert segmenter.encoded == 1


def test_few_pictures_are_kept(segmenter: Counting) -> None:
    for seed in (0, 1, 0, 2, 0, 1):  # 1 was used longest ago when 2 came
        segmenter.segment(picture(seed), Hints((0, 0, 96, 72), CLICK))
    assert segmenter.encoded == 4
    assert len(segmenter._seen) == 2


def test_the_mask_lies_in_the_crop(segmenter: Counting) -> None:
    mask = segmenter.segment(picture(0), Hints((10, 5, 50, 40), CLICK)).to_array()
    assert mask.shape == (72, 96)
    assert not mask[:5].any() and not mask[40:].any() and not mask[:, :10].any() and not mask[:, 50:].any()


def test_clicks_and_the_box_matter(segmenter: Counting) -> None:
    image = picture(3)
    whole = segmenter.alternatives(image, Hints((0, 0, 96, 72), CLICK))
    assert len(whole) == 3
    assert [score for _, score in whole] == sorted((score for _, score in whole), reverse=True)
    refused = segmenter.alternatives(image, Hints((0, 0, 96, 72), CLICK, ELSEWHERE))
    boxed = segmenter.alternatives(image, Hints((0, 0, 96, 71), CLICK))
    scores = {tuple(round(score, 6) for _, score in found) for found in (whole, refused, boxed)}
    assert len(scores) == 3


def test_threads_share_a_picture(segmenter: Counting) -> None:
    image, masks = picture(4), []

    def work() -> None:
        masks.append(segmenter.segment(image, Hints((5, 5, 90, 60), CLICK)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert segmenter.encoded == 1
    assert all(mask == masks[0] for mask in masks)


def test_grabcut_answers_until_weights_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    preferred = Preferred(EngineOptions(device="cpu"))
    assert isinstance(preferred.chosen(), GrabCut)
    assert preferred.segment(picture(0), Hints((10, 5, 80, 60), CLICK)).width == 96
    for name in ("sam2.1-large", "sam2.1-tiny"):
        weights = catalogue().find(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / weights.files[0].name).write_bytes(b"x")
        chosen = preferred.chosen()
        assert isinstance(chosen, Sam2Segmenter)
        assert chosen.tracker.card.name == name


def test_pictures_prompts_are_those_of_the_official_predictor() -> None:
    """Box first, as two points labelled 2 and 3, then the clicks; the memory is that of no frame before."""
    sam2 = pytest.importorskip("sam2.sam2_image_predictor")
    from sam2.build_sam import build_sam2

    from common.networks.sam2 import image as network
    from common.networks.sam2.convert import convert
    from common.networks.sam2.stream import Stream
    from common.weights.loading import assign

    torch.manual_seed(0)
    official = build_sam2(
        "configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu", hydra_overrides_extra=["++model.image_size=256"]
    )
    for parameter in official.parameters():
        if parameter.ndim == 1 or parameter.shape[0] == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    predictor = sam2.SAM2ImagePredictor(official)
    predictor._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]  # it expects 1024 pixels
    model = build.build(build.Sizes(**{**vars(build.TINY), "image": 256}))
    assign(model, convert({"model": official.state_dict()}))
    stream = Stream(model)
    shot = np.random.default_rng(5).integers(0, 256, (256, 256, 3), np.uint8)  # resized by neither
    box, clicks = np.array([30, 20, 200, 150], np.float32), np.array([[100, 90], [40, 30]], np.float32)
    with torch.inference_mode():
        predictor.set_image(shot)
        features = stream.see(shot)
        for several in (True, False):
            _, quality, low = predictor.predict(
                point_coords=clicks, point_labels=np.array([1, 0]), box=box, multimask_output=several
            )
            ours, scores = network.masks(
                model, features, Clicks.of_box(box, clicks[:1], clicks[1:]), shot.shape[:2], several
            )
            order = np.argsort(-quality, kind="stable")
            np.testing.assert_allclose(scores.numpy(), quality[order], atol=1e-4)
            scale = np.abs(low).max()
            assert np.abs(ours[:, 0].clamp(-32, 32).numpy() - low[order]).max() < 1e-3 * scale
