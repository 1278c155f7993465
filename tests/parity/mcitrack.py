"""Our MCITrack on a parity case."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.networks.mcitrack import CONFIGS, MCITrack
from common.trackers.boxes.mcitrack_run import MCITrackProcedure, MCITrackSettings
from tests.parity.cases import Arrays, Case, prepare
from tests.parity.siamese import override, random_input

_CPU = torch.device("cpu")


def config_of(case: Case) -> Any:
    """From the name of the authors' configuration file."""
    return CONFIGS[PurePath(case["config"]).stem]


def build(case: Case) -> MCITrack:
    """The case's network with its weights."""
    network = MCITrack(config_of(case))
    with torch.no_grad():
        prepare(network, case)
        override(network, case)
    return network


@torch.inference_mode()
def run_case(case: Case, single: bool = True, sequence: bool = True) -> Arrays:
    """Every array of the case that is not an input; of the single forward passes, of the tracked clip, or both."""
    network = build(case)
    out = _single(network, case) if single else {}
    if sequence and "clip_u8" in case["arrays"]:
        out |= _sequence(network, case)
    return out


def _single(network: MCITrack, case: Case) -> Arrays:
    inputs, every = case["inputs"]["single"], case["subsample"]
    boxes = torch.from_numpy(case["arrays"]["in_template_boxes_xywh"])
    templates = network.templates(random_input(inputs["templates"]), boxes).flatten(0, 1)[None]
    state = network.first_state(1)
    out: Arrays = {}
    for frame in range(sum(name.startswith("search_") for name in inputs)):
        seen: dict[str, Tensor] = {}
        handles = _watch(network, f"mid{frame}_", seen)
        maps, state = network.search(random_input(inputs[f"search_{frame}"]), templates, state)
        for handle in handles:
            handle.remove()
        seen[f"mid{frame}_hidden_0"], seen[f"mid{frame}_hidden_last"] = state[:, 0], state[:, -1]
        if frame > 0:
            seen = {name: value for name, value in seen.items() if name.startswith(f"mid{frame}")}
        out |= {name: value.flatten()[:: every[name]].numpy() for name, value in seen.items() if name in every}
        for name in ("score", "size", "offset"):
            out[f"out{frame}_{name}_map"] = getattr(maps, name).numpy()
        out[f"out{frame}_pred_boxes"] = maps.boxes(maps.score.flatten(1).argmax(1))[0].numpy()
    return out


def _watch(network: MCITrack, frame: str, seen: dict[str, Tensor]) -> list[Any]:
    def note(name: str, module: nn.Module, change: Any = lambda out: out) -> Any:
        return module.register_forward_hook(lambda _, __, out: seen.__setitem__(name, change(out)))

    body, neck = network.encoder.body, network.neck
    start = neck.register_forward_pre_hook(lambda _, args: seen.__setitem__("mid_encoder_tokens", args[0]))
    return [
        start,
        note("mid_stem_out", body.patch_embed),
        note(f"{frame}mamba_0", neck.layers[0], lambda out: out[0]),
        note(f"{frame}injector_0", neck.interactions[0].injector),
        note(f"{frame}block_first_main", body.blocks[network.config.stem]),
        note(f"{frame}extractor_0", neck.interactions[0].extractor),
        note(f"{frame}block_last", body.blocks[-1]),
        note(f"{frame}fc_norm", body.fc_norm),
        note(f"{frame}neck_out", neck, lambda out: out[0]),
    ]


def _sequence(network: MCITrack, case: Case) -> Arrays:
    settings = {name: case["settings"][name] for name in MCITrackSettings.__dataclass_fields__}
    clip = case["arrays"]["clip_u8"]
    boxes = np.array([case["inputs"]["sequence"]["init_bbox_xywh"]], np.float64)
    upright, ten, sure = np.zeros(1), np.full(1, 10.0), np.ones(1, bool)
    run = MCITrackProcedure.begin(network, MCITrackSettings(**settings), _CPU, clip[0], boxes, upright, ten)
    template = run.to_tree()["used"][0, 0]
    rows: list[tuple[Any, ...]] = []
    for number, image in enumerate(clip[1:]):
        found = run.follow(image, np.ones(1))
        detail = found.detail
        run.accept(image, found, sure, sure)
        crop = [detail["side"][0], *detail["corner"][0]]
        dropped = not run.to_tree()["state"].any()
        rows.append((found.boxes[0], detail["confidence"][0], dropped, run.bank_length[0], crop))
        if number == 0:
            shown = detail["crops"][0][::4, ::4].copy()
    columns = list(zip(*rows, strict=True))
    return {
        "seq_boxes_xywh": np.array(columns[0], np.float64),
        "seq_conf": np.array(columns[1], np.float32),
        "seq_hidden_reset": np.array(columns[2], np.int8),
        "seq_memory_len": np.array(columns[3], np.int32),
        "seq_search_crop_size_x1_y1": np.array(columns[4], np.int32),
        "seq_template_crop_u8": template[::2, ::2],
        "seq_search_crop_frame1_u8": shown,
    }
