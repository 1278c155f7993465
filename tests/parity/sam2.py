"""SAM 2.1 as the tracker runs it, on the cases of ../shared/parity/sam2*."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from common.networks.sam2 import build
from common.networks.sam2.decoding import Features, Found
from common.networks.sam2.inputs import Clicks, pixels, to_picture
from common.networks.sam2.memory import Bank
from common.networks.sam2.stream import Drawing, Stream
from tests.parity.cases import Arrays, Case, prepare

SIZES = {
    "tiny": build.TINY,
    "small": build.SMALL,
    "base_plus": build.BASE_PLUS,
    "base+": build.BASE_PLUS,
    "large": build.LARGE,
}


def network(case: Case) -> Any:
    """The network of the case, with its weights."""
    name = re.search(r"hiera[ _]([a-z_]+\+?)", case["config"])
    side = re.search(r"image_size (\d+)", case["config"])
    assert name and side, case["config"]
    sizes = build.Sizes(**{**vars(SIZES[name[1]]), "image": int(side[1])})
    model = build.build(sizes)
    prepare(model, case)
    entries = model.state_dict()
    for copy, original in case.get("copies", {}).items():
        entries[copy].copy_(entries[original])
    return model.requires_grad_(False)


def clip(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (T, H, W, 3) and labels uint8 (T, H, W) from the case's recipe."""
    scope: dict[str, Any] = {}
    exec(case["recipe"]["code"] + f"\nframes, labels = {case['recipe']['call']}\n", scope)
    frames, labels = scope["frames"], scope["labels"]
    digest = case["recipe"].get("sha256")
    told = (
        hashlib.sha256(frames.tobytes()).hexdigest(),
        hashlib.sha256(frames.tobytes() + labels.tobytes()).hexdigest(),
    )
    assert digest is None or digest in told, "the recipe gives another clip here"
    return frames, labels


def drawings(text: str, first: int, labels: np.ndarray) -> list[Drawing]:
    """What the case's words say is drawn on the first frame, object by object."""
    found: dict[int, Drawing] = {}
    masks = re.search(r"objects? ([\d, and]+?) masks?", text)
    for number in map(int, re.findall(r"\d+", masks[1]) if masks else ()):
        found[number] = labels[first] == number
    for number, box in re.findall(r"object (\d+) box (\[[^\]]*\])", text):
        found[int(number)] = Clicks.of_box(np.array(json.loads(box), np.float32))
    for number, points, kinds in re.findall(r"object (\d+) points (\[\[.*?\]\]) labels (\[[^\]]*\])", text):
        found[int(number)] = Clicks(np.array(json.loads(points), np.float32), np.array(json.loads(kinds), np.int64))
    assert found, text
    return [found[number] for number in sorted(found)]


def play(
    stream: Stream, seen: Mapping[int, Features], order: list[int], drawn: list[Drawing], shape: tuple[int, int]
) -> list[Found]:
    """The clip in that order; everything is drawn on its first frame."""
    banks = [Bank() for _ in drawn]
    prompts: Mapping[int, Drawing] = dict(enumerate(drawn))
    return [stream.step(seen[index], banks, at, {} if at else prompts, shape) for at, index in enumerate(order)]


@torch.inference_mode()
def run_case(case: Case) -> Arrays:
    """All arrays of the case by name."""
    frames, labels = clip(case)
    stream = Stream(network(case))
    shape = frames.shape[1:3]
    listed = (numbers for name, numbers in case["arrays"].items() if name.endswith("_frames"))
    seen = {int(n): stream.see(frames[int(n)]) for n in np.unique([0, *np.concatenate([*listed])])}  # once for all runs
    features = seen[0]
    fine0, fine1 = features.fine
    memory = stream.learn(features, labels[0] == 1, shape)
    side = stream.model.backbone_feature_sizes[-1][0]
    out: dict[str, Any] = {
        "a_input_s8": pixels(frames[0], stream.model.image_size)[:, :, ::8, ::8],
        "a_fpn0_ch0_2": fine0[:, :2, ::2, ::2],
        "a_fpn1_ch0_4": fine1[:, :4],
        "a_fpn2_ch0_16": features.top.permute(1, 2, 0)[:, :16].unflatten(2, (side, side)),
        "a_memory_of_mask_prompt_ch0_16": memory.tokens.float().T[None, :16].unflatten(2, (side, side)),  # type: ignore[union-attr]
    }
    for tag in sorted(name.removesuffix("_frames") for name in case["arrays"] if name.endswith("_frames")):
        listed_frames = [int(index) for index in case["arrays"][f"{tag}_frames"]]
        start = re.search(r"on frame (\d+)", case["outputs"][tag])
        first = int(start[1]) if start else listed_frames[0]
        order = sorted(listed_frames, key=lambda index: abs(index - first))
        played = play(stream, seen, order, drawings(case["outputs"][tag], first, labels), shape)
        found = [played[order.index(index)] for index in listed_frames]
        out[f"{tag}_frames"] = np.array(listed_frames, np.int32)
        out[f"{tag}_logits_s2"] = torch.stack([f.logits[:, 0, ::2, ::2] for f in found])
        out[f"{tag}_score"] = torch.stack([f.score[:, 0] for f in found])
        out[f"{tag}_ptr_ch0_32"] = torch.stack([f.pointer[:, :32] for f in found])
        text = case["outputs"].get(f"{tag}_final_masks_packed")
        if text:
            listed = re.search(r"of frames ([\d,]+)", text)
            assert listed, text
            chosen = [found[listed_frames.index(int(index))] for index in listed[1].split(",")]
            masks = np.stack([(to_picture(f.logits, shape) > 0).numpy() for f in chosen])
            out[f"{tag}_final_masks_packed"] = np.packbits(masks, axis=-1)
    return {name: np.asarray(value) for name, value in out.items()}
