"""TAPNext++ beside the published code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from common.networks.tapnext.network import Config, Step, TapNext
from common.networks.tapnext.streams import Stream
from tests.parity.cases import Arrays, Case, prepare


def build(case: Case) -> TapNext:
    config: dict[str, Any] = case["config"]
    network = TapNext(
        Config(
            width=config["width"],
            depth=config["depth"],
            heads=config["num_heads"],
            patch=config["patch_size"][0],
            native=config["image_size"][0],
        )
    )
    prepare(network, case)
    return network.requires_grad_(False)


@torch.inference_mode()
def run_case(case: Case) -> Arrays:
    """The case's outputs."""
    network, arrays = build(case), case["arrays"]
    out: Arrays = {}
    for part in ("single", "seq"):
        steps, stream = _track(network, arrays[f"{part}_in_frames"], arrays[f"{part}_in_queries"])
        out[f"{part}_out_tracks_yx"] = np.stack([step.xy.flip(-1).numpy() for step in steps])
        out[f"{part}_out_visible_logits"] = np.stack([step.visible[:, None].numpy() for step in steps])
        out[f"{part}_out_certainty"] = np.stack([step.certainty[:, None].numpy() for step in steps])
        assert stream.state is not None
        logits = np.stack([step.logits.numpy() for step in steps])
        if part == "single":
            out["single_out_track_logits"] = logits
        else:
            out["seq_out_track_logits_last"] = logits[-1]
            patches = stream.size[0] // network.config.patch * (stream.size[1] // network.config.patch)
            tokens = [0, patches - 1, patches, patches + len(logits[-1]) - 1]
            out["seq_out_state_block11_rglru"] = stream.state[-1][0][tokens, ::6].numpy()
    return out


def _track(network: TapNext, frames: np.ndarray, queries: np.ndarray) -> tuple[list[Step], Stream]:
    """Frame by frame. queries: (n, 3) t, y, x on a picture of 256 x 256."""
    stream = Stream(network, frames.shape[1:3])
    stream.add(torch.from_numpy(queries[:, [2, 1]]), torch.from_numpy(queries[:, 0]))
    return [stream.push(stream.picture(frame)) for frame in frames], stream
