"""Our MixFormer on a parity case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.networks.mixformer import CONFIGS, UNUSED, MixFormer
from common.networks.mixformer.heads import CornerHead, EdgeHead, region_pool
from common.networks.vision_layers import to_grid, to_input, to_tokens
from common.trackers.boxes.mixformer_run import MixFormerProcedure, MixFormerSettings
from tests.parity.cases import Arrays, Case, prepare

_CPU = torch.device("cpu")


def build(case: Case) -> MixFormer:
    """The case's network with its weights. Tensors that no forward pass reads are not ours to have."""
    network = MixFormer(CONFIGS[case["config"]])
    assert set(case.get("unused_parameters", ())) <= set(UNUSED)
    used = {name: shape for name, shape in case["parameters"].items() if name not in UNUSED}
    with torch.no_grad():
        prepare(network, {**case, "parameters": used})
    return network


@torch.inference_mode()
def run_case(case: Case, single: bool = True, sequence: bool = True) -> Arrays:
    """Every array of the case that is not an input; of the single forward pass, of the tracked clip, or both."""
    network = build(case)
    out = _single(network, case) if single else {}
    if sequence and "clip_u8" in case["arrays"]:
        out |= _sequence(network, case)
    return out


def _single(network: MixFormer, case: Case) -> Arrays:
    arrays = case["arrays"]
    first, online, search = (
        to_input(arrays[f"in_{name}_u8"], _CPU, torch.float32) for name in ("template", "online_templates", "search")
    )
    every: dict[str, int] = case["subsample"]
    seen: dict[str, Tensor] = {}
    with _watch(network, "template", seen):
        templates = network.templates(torch.cat((first, online))[None])
    with _watch(network, "search", seen):
        boxes, logits = network.search(search, templates)
    if isinstance(network.box_head, CornerHead):
        seen["mid_template_feature"] = to_grid(templates.first, network.config.template_grid)
        grid = to_grid(seen[f"mid_block_{network.config.depth - 1}"], network.config.search_grid)
        seen |= {f"mid_score_map_{corner}": network.box_head.score_map(grid, corner) for corner in ("tl", "br")}
        low, extent = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]
        seen["mid_roi_pool"] = region_pool(grid, torch.cat((low, low + extent), 1) * network.config.search_grid, 4)
    out: Arrays = {"out_pred_boxes": boxes[0].numpy(), "out_pred_logit": logits.numpy()}
    out |= {name: seen[name].flatten()[:: every[name]].numpy() for name in every if name in seen}
    if "out_pred_boxes_one_online" in arrays:
        templates = network.templates(torch.cat((first, online[:1]))[None])
        boxes, logits = network.search(search, templates)
        out |= {"out_pred_boxes_one_online": boxes[0].numpy(), "out_pred_logit_one_online": logits.numpy()}
    if isinstance(network.box_head, EdgeHead):
        chances = network.box_head.chances(seen["mid_reg_tokens"])[0].numpy()
        out |= {f"out_prob_{edge}": chance for edge, chance in zip("lrtb", chances, strict=True)}
    return out


def _sequence(network: MixFormer, case: Case) -> Arrays:
    settings = {name: case["settings"][name] for name in MixFormerSettings.__dataclass_fields__}
    clip = case["arrays"]["clip_u8"]
    boxes = np.array([case["inputs"]["sequence"]["init_bbox_xywh"]], np.float64)
    upright, ten, sure = np.zeros(1), np.full(1, 10.0), np.ones(1, bool)
    run = MixFormerProcedure.begin(network, MixFormerSettings(**settings), _CPU, clip[0], boxes, upright, ten)
    rows: list[tuple[Any, ...]] = []
    for number, image in enumerate(clip[1:]):
        found = run.follow(image, np.ones(1))
        run.accept(image, found, sure, sure)
        detail = found.detail
        crop = [detail["side"][0], *detail["corner"][0]]
        rows.append((found.boxes[0], detail["logits"][0], detail["predicted"][0], crop, detail["replaced"][0]))
        if number == 0:
            shown = detail["crops"][0][::4, ::4].copy()
    columns = list(zip(*rows, strict=True))
    return {
        "seq_boxes_xywh": np.array(columns[0], np.float64),
        "seq_logits": np.array(columns[1], np.float32),
        "seq_pred_boxes_cxcywh": np.array(columns[2], np.float32),
        "seq_search_crop_size_x1_y1": np.array(columns[3], np.int32),
        "seq_new_best_template": np.array(columns[4], np.int8),
        "seq_search_crop_frame1_u8": shown,
    }


def _by_head(tokens: Tensor, heads: int) -> Tensor:
    """(1, length, 3 width) -> (3, 1, heads, length, head width), as the reference keeps it."""
    return tokens.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)


@contextmanager
def _watch(network: MixFormer, phase: str, seen: dict[str, Tensor]) -> Iterator[None]:
    """Notes what flows between the modules, by the names of the cases. phase: "template" or "search"."""
    handles = []

    def note(name: str, module: nn.Module, change: Any = lambda out: out) -> None:
        handles.append(module.register_forward_hook(lambda _, __, out: seen.__setitem__(name, change(out))))

    backbone, kind = network.backbone, network.config.kind
    for number, block in enumerate(backbone.stages()):
        name = f"mid_block_{number}"
        if phase == "template":
            note(f"mid_template_qkv_block_{number}", block.attn.qkv, partial(_by_head, heads=network.config.heads))
            note(name, block, lambda out: out[0])
        elif kind == "v2":  # the reference runs templates and search together
            before = seen[name]
            note(name, block, lambda out, before=before: torch.cat((before, out[0]), 1))
        else:
            note(name, block, lambda out: out[0])
    if phase == "search":
        _watch_search(network, note, seen)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch_search(network: MixFormer, note: Any, seen: dict[str, Tensor]) -> None:
    backbone: Any = network.backbone
    if network.config.kind == "convmae":
        note("mid_stem_blocks1", backbone.blocks1[-1])
        note("mid_stem_blocks2", backbone.blocks2[-1])
        note("mid_patch_embed4", backbone.patch_embed4)
    else:
        note(
            "mid_patch_embed" if network.config.kind == "vit" else "mid_patch_embed_search",
            backbone.patch_embed,
            to_tokens,
        )
    head: Any = network.box_head
    if isinstance(head, CornerHead):
        note("mid_corner_conv1_tl", head.conv1_tl)
    else:
        note("mid_reg_tokens", backbone.blocks[-1], lambda out: out[0][:, -4:])
