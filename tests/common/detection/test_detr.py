"""RT-DETRv2, D-FINE, DEIMv2 and RF-DETR: the published sizes, checkpoints in their layout, and the contract in a small
configuration of the same classes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from common.detection import registry
from common.detection.contract import DetectorSettings
from common.detection.detr import DetrDetector
from common.detection.detr_variants import VARIANTS
from common.errors import WeightsInvalid
from common.weights.options import SEEDED, EngineOptions
from tests.contract.detectors import DETECTOR_CHECKS, gives_sound_detections_for_every_picture, pictures, same

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402

SMALLER = {
    "rtdetrv2-r18": {"num_queries": 20, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    "dfine-n": {"num_queries": 20, "decoder_layers": 2},
    "deimv2-n": {"num_queries": 20, "decoder_layers": 2},
    "deimv2-s": {"num_queries": 20, "decoder_layers": 2},
    "rfdetr-nano": {"num_queries": 10, "decoder_layers": 1, "decoder_ffn_dim": 64, "group_detr": 1},
}
SIDES = {"dfine-n": 96, "deimv2-n": 96, "deimv2-s": 64, "rtdetrv2-r18": 64, "rfdetr-nano": 64}


CPU = EngineOptions(SEEDED, "cpu")


def small(name, options=CPU, floor=0.05):
    variant = VARIANTS[name]
    backbone = dict(variant.backbone[1])
    if name in ("deimv2-s", "rfdetr-nano"):
        backbone |= {"num_hidden_layers": 12, "intermediate_size": 96} if name == "deimv2-s" else {"mlp_ratio": 1}
    variant = replace(
        variant,
        side=SIDES[name],
        config={**variant.config, **SMALLER[name]},
        backbone=(variant.backbone[0], backbone),
    )
    return DetrDetector(name, variant, options, DetectorSettings(floor=floor))


@lru_cache(maxsize=1)
def built(name):
    return small(name)._ready()


def fresh(name):
    """A detector of its own around a network that is built once: building takes longer than looking."""
    detector = small(name)
    detector._model = built(name)
    return detector


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["dfine-n", "rfdetr-nano"])
def test_contract(name, check):
    check(lambda: fresh(name))


@pytest.mark.parametrize("name", SMALLER)
def test_every_family_gives_sound_detections(name):
    gives_sound_detections_for_every_picture(lambda: fresh(name))


# Millions of parameters that the papers and model cards state.
PUBLISHED = {
    "rtdetrv2-r18": 20, "rtdetrv2-r34": 31, "rtdetrv2-r50-m": 36, "rtdetrv2-r50": 42, "rtdetrv2-r101": 76,
    "dfine-n": 4, "dfine-s": 10, "dfine-m": 19, "dfine-l": 31, "dfine-x": 62,
    "deimv2-n": 3.6, "deimv2-s": 9.7,
    "rfdetr-nano": 30.5, "rfdetr-small": 32.1, "rfdetr-medium": 33.7, "rfdetr-base": 32, "rfdetr-large": 33.9,
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_sizes_are_the_published_ones(name):
    variant = VARIANTS[name]
    with torch.device("meta"):
        backbone = getattr(transformers, variant.backbone[0])(**variant.backbone[1])
        config = getattr(transformers, f"{variant.family}Config")(
            **variant.config, backbone_config=backbone, num_labels=variant.classes
        )
        module = getattr(transformers, f"{variant.family}ForObjectDetection")(config)
    millions = sum(p.numel() for p in module.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[name], rel=0.05, abs=0.3)


@pytest.mark.parametrize(
    ("name", "described"), [(name, name in ("dfine-n", "rfdetr-nano")) for name in SMALLER], ids=list(SMALLER)
)
def test_reads_checkpoints_in_the_published_layout(name, described, tmp_path):
    """What `save_pretrained` writes, as on the hub: older names, tensors that stand for several stored once."""
    first = small(name)
    images = pictures(8, 2)
    wanted = first.detect(images)
    module = first._ready().module
    if described:
        module.config.id2label = {n: f"thing {n}" for n in range(module.config.num_labels)}
    module.save_pretrained(tmp_path)
    if not described:
        (tmp_path / "config.json").unlink()
    again = small(name, EngineOptions(str(tmp_path / "model.safetensors"), "cpu"))
    for a, b in zip(wanted, again.detect(images), strict=True):
        same(a, b, 1e-5)
    assert again.card.classes[3] == ("thing 3" if described else first.card.classes[3])


def test_refuses_what_does_not_fit(tmp_path):
    small("dfine-n")._ready().module.save_pretrained(tmp_path)
    with pytest.raises(WeightsInvalid, match=r"describes 'd_fine', not 'rt_detr_v2'"):
        small("rtdetrv2-r18", EngineOptions(str(tmp_path / "model.safetensors"), "cpu")).prepare()
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsInvalid, match="not one of RTDetrV2ForObjectDetection"):
        small("rtdetrv2-r18", EngineOptions(str(tmp_path / "model.safetensors"), "cpu")).prepare()
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(WeightsInvalid, match="cannot be read"):
        small("rtdetrv2-r18", EngineOptions(str(tmp_path / "model.safetensors"), "cpu")).prepare()


def test_boxes_are_those_of_the_library():
    """The library's own processor gives the same boxes, scores and classes of a picture."""
    from transformers import RTDetrImageProcessor

    detector = small("rtdetrv2-r18", floor=0.0)
    image = pictures(9, 1, 200, 130)[0]
    (found,) = detector.detect([image])
    processor = RTDetrImageProcessor(size={"height": 64, "width": 64})
    inputs = processor(images=image, return_tensors="pt")
    with torch.inference_mode():
        out = detector._ready().module(**inputs)
    (theirs,) = processor.post_process_object_detection(out, 0.0, torch.tensor([[130, 200]]))
    best = min(20, len(found), len(theirs["scores"]))
    order = np.argsort(-theirs["scores"].numpy(), kind="stable")[:best]
    np.testing.assert_allclose(found.scores[:best], theirs["scores"].numpy()[order], atol=2e-3)


def test_the_smallest_published_size_runs():
    detector = registry.make("dfine-n", EngineOptions(SEEDED, "cpu"))
    (found,) = detector.detect(pictures(10, 1, 320, 240))
    assert len(detector.card.classes) == 80 and len(found) <= 300
