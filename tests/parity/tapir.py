"""TAPIR and BootsTAPIR, whole-clip and causal, beside the published code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from common.networks.tapir.network import Config, Tapir, visible_probability
from common.networks.tapir.streams import CausalStream, Found, WindowStream, picture
from tests.parity.cases import Arrays, Case, prepare

_CPU = torch.device("cpu")


def build(case: Case) -> Tapir:
    config: dict[str, Any] = case["config"]
    network = Tapir(
        Config(
            causal=config["use_casual_conv"],
            extra_convs=config["extra_convs"],
            pyramid_level=config["pyramid_level"],
            iterations=config["num_pips_iter"],
            blocks=config["num_mixer_blocks"],
            temperature=config["softmax_temperature"],
            initial=tuple(config["initial_resolution"]),
        )
    )
    prepare(network, case)
    return network.requires_grad_(False)


@torch.inference_mode()
def run_case(case: Case) -> Arrays:
    """The case's outputs, and those intermediates that the tracker itself knows."""
    network, arrays = build(case), case["arrays"]
    out: Arrays = {}
    if "single_in_frames" in arrays:
        sizes = case["inputs"].get("single_refinement_resolutions")
        found = _whole_clip(network, arrays["single_in_frames"], arrays["single_in_queries"], sizes)
        scale = np.array(arrays["single_in_frames"].shape[2:0:-1]) / np.array(network.config.initial[::-1])
        first = found.levels[0]
        out = _by_point("single_out", found) | {
            "single_mid_unrefined_tracks": found.matched.movedim(0, 1).numpy(),
            "single_mid_iter4_tracks": (first.xy.numpy() * scale).astype(np.float32),
            "single_mid_iter4_occlusion": first.occlusion.numpy(),
            "single_mid_iter4_expected_dist": first.distance.numpy(),
        }
    if "seq_in_frames" not in arrays:
        return out
    if network.config.causal:
        return out | _frame_by_frame(network, arrays, *_replacement(case))
    found = _whole_clip(network, arrays["seq_in_frames"], arrays["seq_in_queries"], None)
    out |= _by_point("seq_out", found)
    probability = visible_probability(found.occlusion, found.distance).T.numpy()
    return out | {"seq_out_visible_prob": probability, "seq_out_visible": probability > 0.5}


def _whole_clip(network: Tapir, frames: np.ndarray, queries: np.ndarray, sizes: list[Any] | None) -> Found:
    """All frames in one window. queries: (n, 3) t, y, x."""
    t, height, width = frames.shape[:3]
    stream = WindowStream(network, (height, width), [tuple(s) for s in sizes] if sizes else None, window=t, overlap=0)
    encoded = [stream.encode(picture(frame, _CPU)[None]) for frame in frames]
    stream.queries = torch.from_numpy(queries)[:, [0, 2, 1]]
    stream.add(stream.look(encoded[0], stream.queries[:, 1:]))
    for frame in range(1, t):
        rows = torch.nonzero(stream.queries[:, 0] == frame)[:, 0]
        looks = stream.look(encoded[frame], stream.queries[rows, 1:])
        for kept, look in zip(stream.vectors, looks, strict=True):
            kept.fine[rows], kept.coarse[rows] = look.fine, look.coarse
    found = [stream.push(maps) for maps in encoded][-1]
    assert found is not None
    return found


def _by_point(prefix: str, found: Found) -> Arrays:
    return {
        f"{prefix}_tracks": found.xy.movedim(0, 1).numpy(),
        f"{prefix}_occlusion": found.occlusion.T.numpy(),
        f"{prefix}_expected_dist": found.distance.T.numpy(),
    }


def _replacement(case: Case) -> tuple[int, int]:
    """At which frame the sequence gives which point a new query, which the case says in words only."""
    words = case["inputs"]["seq_in_new_query"]
    frame, slot = (re.search(rf"{name} (\d+)", words) for name in ("at frame", "slot"))
    assert frame and slot, words
    return int(frame[1]), int(slot[1])


def _frame_by_frame(network: Tapir, arrays: Arrays, replaced_at: int, slot: int) -> Arrays:
    queries, late = (torch.from_numpy(arrays[name])[:, [0, 2, 1]] for name in ("seq_in_queries", "seq_in_new_query"))
    height, width = arrays["seq_in_frames"].shape[1:3]
    stream = CausalStream(network, (height, width))
    found: list[Found] = []
    contexts: Arrays = {}
    for number, frame in enumerate(arrays["seq_in_frames"]):
        maps = stream.encode(picture(frame, _CPU)[None])
        if number == 0:
            stream.add(stream.look(maps, queries[:, 1:]))
        if number == replaced_at:
            stream.replace([slot], stream.look(maps, late[:, 1:]))
        found.append(stream.push(maps))
        if number == 2:
            contexts = {
                "seq_mid_context_iter0_block0_causal1_after_frame2": stream.contexts[0][0][:, 0, :, ::8].numpy(),
                "seq_mid_context_iter3_block11_causal2_after_frame2": stream.contexts[3][1][:, 11, :, ::32].numpy(),
            }
    occlusion, distance = torch.cat([f.occlusion for f in found]), torch.cat([f.distance for f in found])
    probability = visible_probability(occlusion, distance).numpy()
    return contexts | {
        "seq_out_tracks": torch.cat([f.xy for f in found]).numpy(),
        "seq_out_occlusion": occlusion.numpy(),
        "seq_out_expected_dist": distance.numpy(),
        "seq_out_visible_prob": probability,
        "seq_out_visible": probability > 0.5,
        "seq_mid_stage1_tracks": torch.cat([f.matched for f in found]).numpy(),
    }
