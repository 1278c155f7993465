"""Our TransT on a parity case."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.transt import CONFIGS, TransT
from common.trackers.boxes.transt_run import TransTProcedure, TransTSettings, template_window
from tests.parity.cases import Arrays, Case, prepare
from tests.parity.siamese import override, random_input

_CPU = torch.device("cpu")


def build(case: Case) -> TransT:
    """The case's network with its weights."""
    network = TransT(CONFIGS[case["config"].split()[0]])
    with torch.no_grad():
        prepare(network, case)
        override(network, case)
    return network


@torch.inference_mode()
def run_case(case: Case, single: bool = True, sequence: bool = True) -> Arrays:
    """Every array of the case that is not an input; of the single forward pass, of the tracked clip, or both."""
    network = build(case)
    out = _single(network, case) if single else {}
    if sequence and "clip_u8" in case["arrays"]:
        out |= _sequence(network, case)
    return out


def _single(network: TransT, case: Case) -> Arrays:
    inputs = case["inputs"]["single"]
    seen: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, change: Any = lambda out: out) -> Any:
        return module.register_forward_hook(lambda _, __, out: seen.__setitem__(name, change(out)))

    body, fusion = network.backbone[0].body, network.featurefusion_network
    handles = [note("mid_template_layer3", body.layer3)]
    template = network.encode(random_input(inputs["template"]))
    handles[0].remove()
    layers = fusion.encoder.layers
    handles = [
        note("mid_maxpool", body.bn1, lambda out: F.max_pool2d(F.relu(out), 3, 2, 1)),
        *(note(f"mid_layer{n}", body.get_submodule(f"layer{n}")) for n in (1, 2, 3)),
        note("mid_input_proj_search", network.input_proj),
        note("mid_fusion0_template", layers[0], lambda out: out[0]),
        note("mid_fusion_last_search", layers[-1], lambda out: out[1]),
        note("mid_decoder", fusion),
    ]
    logits, boxes = network.search(random_input(inputs["search"]), template)
    for handle in handles:
        handle.remove()
    side = network.config.grid
    seen["mid_position_search"] = network.where_search.transpose(1, 2).reshape(1, -1, side, side)
    every: dict[str, int] = case["subsample"]
    out = {name: seen[name].flatten()[:: every[name]].numpy() for name in every if name in seen}
    return {**out, "out_pred_logits": logits.numpy(), "out_pred_boxes": boxes.numpy()}


def _sequence(network: TransT, case: Case) -> Arrays:
    clip = case["arrays"]["clip_u8"]
    boxes = np.array([case["inputs"]["sequence"]["init_bbox_xywh"]], np.float64)
    upright, ten, sure = np.zeros(1), np.full(1, 10.0), np.ones(1, bool)
    run = TransTProcedure.begin(network, TransTSettings(), _CPU, clip[0], boxes, upright, ten)
    start = run.to_tree()
    rows: list[tuple[Any, ...]] = []
    side, corner = template_window(start["pose"])
    crops = [[side[0], *corner[0]]]
    out: Arrays = {}
    for number, image in enumerate(clip[1:]):
        found = run.follow(image, np.ones(1))
        run.accept(image, found, sure, sure)
        detail = found.detail
        crops.append([detail["side"][0], *detail["corner"][0]])
        rows.append((found.boxes[0], detail["best"][0]))
        if number == 0:
            out["seq_logits_frame1"], out["seq_boxes_frame1"] = detail["logits"], detail["predicted"]
            out["seq_search_crop_frame1_u8"] = detail["crops"][0].transpose(2, 0, 1)[:, ::4, ::4]
    columns = list(zip(*rows, strict=True))
    return {
        **out,
        "seq_boxes_xywh": np.array(columns[0], np.float64),
        "seq_best_index": np.array(columns[1], np.int32),
        "seq_crop_size_x0_y0": np.array(crops, np.int32),
        "seq_channel_average": start["mean"],
        "seq_template_crop_u8": start["first"][0].transpose(2, 0, 1)[:, ::2, ::2],
    }
