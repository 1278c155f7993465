"""EdgeTAM and the tracker of SAM 3, frame by frame, give what `transformers` gives with the whole video at hand."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from common.networks.sam2 import build, edgetam, sam3
from common.networks.sam2.decoding import encode
from common.networks.sam2.inputs import Clicks, click_input, mask_input, pixels
from common.networks.sam2.memory import Bank, Entry
from common.networks.sam2.repvit import RepVit
from common.networks.sam2.stream import Drawing, Stream
from common.networks.seeding import fill
from tests.contract.clips import clip, prompts, scene

FRAMES = 18
BOX = Clicks.of_box(np.array((20, 10, 60, 50), np.float32))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So small networks are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Kin:
    name: str

    @property
    def stream(self) -> Stream:
        return _stream(self.name)

    def __str__(self) -> str:
        return self.name


KIN = [Kin("edgetam"), Kin("sam3")]


@lru_cache(maxsize=2)
def _stream(name: str) -> Stream:
    """Small, seeded, and so that objects are in the picture and memory tells more than rounding does."""
    if name == "edgetam":
        model: Any = edgetam.build(edgetam.Sizes((8, 16, 24, 32), (1, 1, 2, 1), 64, 16, 64, 1))
    else:
        model = sam3.build(sam3.Sizes(32, 64, 2, 2, (1,), 4, 56, 112, 64, 1))
    fill(model, [build.COPY])
    build.tie(model)
    model.requires_grad_(False)
    stream = edgetam.EdgeTamStream(model) if name == "edgetam" else sam3.Sam3Stream(model)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(1.5)
    if name == "edgetam":
        spread = encode(model, pixels(pictures()[0], 64)).top.std()
        for conv in model.vision_encoder.neck.convs:
            conv.weight.div_(spread)
    return stream


@lru_cache(maxsize=1)
def pictures() -> list[np.ndarray]:
    return clip(3, FRAMES, 96, 72, 3)


def mask() -> np.ndarray:
    return prompts(scene(3, FRAMES, 96, 72, 3).truth(0), "mask")[0].geometry.to_array()


def whole_video(stream: Stream, start: int, backward: bool, drawing: Drawing) -> dict[int, tuple[np.ndarray, float]]:
    """Logits and score of every frame from `start` on, by the session of `transformers`."""
    model, size = stream.model, stream.model.image_size
    sessions = [thing for name, thing in vars(sys.modules[type(model).__module__]).items() if name.endswith("Session")]
    video = torch.cat([pixels(image, size, stream.normal) for image in pictures()])
    session = sessions[0](video=video, video_height=size, video_width=size, dtype=torch.float32)
    place = session.obj_id_to_idx(1)
    if isinstance(drawing, Clicks):
        points, labels = click_input(drawing, (72, 96), size)
        session.add_point_inputs(place, start, {"point_coords": points, "point_labels": labels})
    else:
        session.add_mask_inputs(place, start, mask_input(drawing, size))
    session.obj_with_new_inputs = [1]
    with torch.inference_mode():
        made = [model(session, frame_idx=start)]
        made += model.propagate_in_video_iterator(session, start_frame_idx=start, reverse=backward)
    return {out.frame_idx: (out.pred_masks[0, 0].numpy(), float(out.object_score_logits.ravel()[0])) for out in made}


def streamed(stream: Stream, order: list[int], drawing: Drawing, bank: Bank) -> dict[int, tuple[np.ndarray, float]]:
    out = {}
    with torch.inference_mode():
        for at, index in enumerate(order):
            told = {} if at else {0: drawing}
            found = stream.step(stream.see(pictures()[index]), [bank], at, told, (72, 96))
            out[index] = found.logits[0, 0].numpy(), float(found.score[0, 0])
    return out


def from_stored_logits(model: nn.Module) -> Any:
    """`_use_mask_as_output` as the official predictor of SAM 2 (and EdgeTAM, its fork) has it: a drawn mask is
    remembered as the decoder's resolution keeps it."""
    original = type(model)._use_mask_as_output  # type: ignore[attr-defined]

    def use(*arguments: Any) -> Any:
        out = original(model, *arguments)
        size = (model.image_size, model.image_size)
        out.high_res_masks = functional.interpolate(out.pred_masks, size, mode="bilinear", align_corners=False)
        return out

    return use


@pytest.mark.parametrize("kin", KIN, ids=str)
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("drawn", ["box", "mask"])
def test_a_stream_gives_what_the_whole_video_gives(kin, backward, drawn, monkeypatch):
    stream, drawing = kin.stream, BOX if drawn == "box" else mask()
    if kin.name == "edgetam":
        monkeypatch.setattr(stream.model, "_use_mask_as_output", from_stored_logits(stream.model), raising=False)
    start = FRAMES - 1 if backward else 0
    order = list(range(start, -1, -1)) if backward else list(range(FRAMES))
    bank = Bank()
    theirs, ours = whole_video(stream, start, backward, drawing), streamed(stream, order, drawing, bank)
    assert theirs.keys() == ours.keys()
    for index in order:
        np.testing.assert_allclose(ours[index][0], theirs[index][0], atol=3e-4, err_msg=f"frame {index}")
        assert ours[index][1] == pytest.approx(theirs[index][1], abs=1e-4)
    assert all(score > 0 for _, score in ours.values())  # absent objects would all look the same
    assert len(bank.recent) == 15


@pytest.mark.parametrize("kin", KIN, ids=str)
def test_memory_matters(kin):
    """Otherwise the test above would say little: another first frame, another end."""
    order = list(range(FRAMES))
    ours = [streamed(kin.stream, order, drawing, Bank())[FRAMES - 1][0] for drawing in (BOX, mask())]
    assert np.abs(ours[0] - ours[1]).max() > 3e-3


def test_earlier_labelled_frames_make_room():
    """SAM 3 reads four labelled frames; older ones count like any other frame, while they are recent."""
    entry = Entry(torch.zeros(1, 1), torch.zeros(1))
    bank = Bank(dict.fromkeys((0, 2, 3, 5, 6, 7), entry))
    assert [ago for ago, _ in bank.memories(8, 6)] == [0] * 6
    assert [ago for ago, _ in bank.memories(8, 6, 4)] == [0, 0, 0, 0, 6]
    assert [ago for ago, _ in bank.memories(9, 6, 4)] == [0, 0, 0, 0]
    assert KIN[0].stream.labelled is None
    assert KIN[1].stream.labelled == 4


def test_published_sizes():
    """Parameters as published: 13.9 million (paper), of which RepViT-M1 has 4.71 (timm)."""
    with torch.device("meta"):
        light, large = edgetam.build(edgetam.Sizes()), sam3.build(sam3.Sizes())
        encoder = RepVit()
    assert sum(p.numel() for p in light.parameters()) / 1e6 == pytest.approx(13.9, abs=0.05)
    assert sum(p.numel() for p in encoder.parameters()) == 4_713_712
    assert large.image_size == 1008
    assert large.backbone_feature_sizes == [[288, 288], [144, 144], [72, 72]]


def _official(model: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict as the official repository of EdgeTAM names it, by the rules of its modules, from ours."""
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    encoder = MemoryEncoder(
        64, MaskDownSampler(kernel_size=3, stride=2, padding=1), Fuser(CXBlock(256), 2), PositionEmbeddingSine(64)
    )
    ours = model.state_dict()
    names = {f"memory_encoder.{name}": value for name, value in encoder.state_dict().items()}
    names |= {
        name.replace("vision_encoder.backbone.timm_model.", "image_encoder.trunk.body."): value
        for name, value in ours.items()
        if ".timm_model." in name
    }
    for layer in range(2):
        at = f"spatial_perceiver.layers.{layer}"
        for place, there in (("cross_attention", "attn"), ("self_attention", "self_attn")):
            names[f"{at}.{there}.to_q.weight"] = ours[f"{at}.{place}.q_proj.weight"]
            names[f"{at}.{there}.to_out.weight"] = ours[f"{at}.{place}.o_proj.weight"]
            both = [ours[f"{at}.{place}.{part}_proj.weight"] for part in "kv"]
            names[f"{at}.{there}.to_kv.weight"] = torch.cat(both)
        for place, there in (("mlp", "ff"), ("self_mlp", "self_ff")):
            for part, number in (("up_proj", 1), ("down_proj", 3)):
                names[f"{at}.{there}.{number}.weight"] = ours[f"{at}.{place}.{part}.weight"]
            for leaf in ("weight", "bias"):
                names[f"{at}.{there}.0.{leaf}"] = ours[f"{at}.{place}.layer_norm.{leaf}"]
        for leaf in ("weight", "bias"):
            names[f"{at}.attn.norm_x.{leaf}"] = ours[f"{at}.layer_norm_input.{leaf}"]
            names[f"{at}.attn.norm_latents.{leaf}"] = ours[f"{at}.layer_norm_latents.{leaf}"]
            names[f"{at}.self_attn.norm.{leaf}"] = ours[f"{at}.layer_norm_self.{leaf}"]
    for leaf in ("weight", "bias"):
        names[f"spatial_perceiver.norm.{leaf}"] = ours[f"spatial_perceiver.layer_norm.{leaf}"]
    names["spatial_perceiver.latents"] = ours["spatial_perceiver.latents_1d"]
    names["spatial_perceiver.latents_2d"] = ours["spatial_perceiver.latents_2d"]
    for number, embedding in enumerate(ours["prompt_encoder.point_embed.weight"]):
        names[f"sam_prompt_encoder.point_embeddings.{number}.weight"] = embedding[None]
    names["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = ours[build.POSITIONS]
    names["memory_attention.layers.0.linear1.weight"] = ours["memory_attention.layers.0.mlp.up_proj.weight"]
    names["memory_attention.layers.0.linear2.bias"] = ours["memory_attention.layers.0.mlp.down_proj.bias"]
    names["memory_attention.layers.0.norm2.bias"] = ours["memory_attention.layers.0.layer_norm2.bias"]
    return names


def test_official_names_of_edgetam_become_ours():
    pytest.importorskip("sam2", reason="the package sam2 is not here")
    model = KIN[0].stream.model
    ours, made = model.state_dict(), edgetam.convert({"model": _official(model)})
    assert made.keys() <= ours.keys()
    assert {name for name in ours if "perceiver" in name or ".timm_model." in name} <= made.keys()
    assert all(made[name].shape == ours[name].shape for name in made)
    for name in made:
        if not name.startswith("memory_encoder."):
            assert torch.equal(made[name], ours[name]), name
    assert edgetam.convert(dict(ours)).keys() == ours.keys()


def test_the_tracker_of_sam_3_is_taken_out_of_its_file():
    model = KIN[1].stream.model
    ours = model.state_dict()
    file = {"detector_model.text_encoder.weight": torch.zeros(1)}
    for name, value in ours.items():
        if name.startswith("vision_encoder.backbone."):
            file["detector_model." + name] = value
        elif name.startswith("vision_encoder.neck."):
            file["tracker_neck." + name.removeprefix("vision_encoder.neck.")] = value
            file["detector_model." + name] = torch.zeros_like(value)
        else:
            file["tracker_model." + name] = value
    made = sam3.convert(file)
    assert made.keys() == ours.keys()
    assert all(torch.equal(made[name], ours[name]) for name in ours)
