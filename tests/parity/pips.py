"""PIPs and PIPs++ beside the published code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from common.networks.pips import network, plusplus
from common.networks.pips.correlation import pyramid
from common.networks.pips.streams import PipsStream, PlusPlusStream, picture
from tests.parity.cases import Arrays, Case, prepare

_CPU = torch.device("cpu")


@torch.inference_mode()
def run_case(case: Case) -> Arrays:
    """The case's outputs."""
    return _plus_plus(case) if "S_max" in case["config"] else _pips(case)


def _frames(images: np.ndarray) -> list[torch.Tensor]:
    return [picture(image, image.shape[:2], _CPU) for image in images]


def _pips(case: Case) -> Arrays:
    config: dict[str, Any] = case["config"]
    net = network.Pips(network.Config(config["S"], config["stride"], config["iters"]))
    prepare(net, case)
    net.requires_grad_(False)
    arrays = case["arrays"]

    frames, queries = _frames(arrays["single_in_frames"]), torch.from_numpy(arrays["single_in_queries"])
    features = torch.cat([net.encode(frame[None]) for frame in frames])
    looks = PipsStream(net).look(features[:1], queries)
    found = net.track(pyramid(features), looks, queries / config["stride"])
    out: Arrays = {
        "single_out_trajs": (torch.stack(found.steps) * config["stride"]).numpy(),
        "single_out_vis_logits": found.visible.numpy(),
        "single_mid_query_feature": looks.numpy(),
    }

    windows: list[tuple[int, int, int, np.ndarray]] = []
    stream = PipsStream(net, lambda *window: windows.append(window))
    given = []
    for number, frame in enumerate(_frames(arrays["seq_in_frames"])):
        encoded = stream.encode(frame)
        if number == 0:
            queries = torch.from_numpy(arrays["seq_in_queries"])
            stream.add(queries, stream.look(encoded, queries))
        given.append(stream.push(encoded))
    given.append(stream.flush())
    windows.sort(key=lambda window: window[:2])
    return out | {
        "seq_out_trajs": torch.cat([part.xy for part in given if part is not None]).numpy(),
        "seq_out_window_point_start_skip": np.array([window[:3] for window in windows], np.int32),
        "seq_out_window_vis": np.stack([window[3] for window in windows]),
    }


def _plus_plus(case: Case) -> Arrays:
    config: dict[str, Any] = case["config"]
    iterations, window = _first_number(config["iters"]), _first_number(config["S_max"])
    net = plusplus.PipsPlusPlus(plusplus.Config(config["stride"], iterations))
    prepare(net, case)
    net.requires_grad_(False)
    arrays, stride = case["arrays"], config["stride"]

    frames, queries = _frames(arrays["single_in_frames"]), torch.from_numpy(arrays["single_in_queries"])
    levels = pyramid(torch.cat([net.encode(frame[None]) for frame in frames]))
    start = (queries / stride).expand(len(frames), -1, -1)
    found, smooth = net.track(levels, start), net.track(levels, start, damped=True)
    out: Arrays = {
        "single_out_trajs": (torch.stack([*found.steps, found.xy]) * stride).numpy(),
        "single_out_trajs_beautify_last": (smooth.xy * stride).numpy(),
    }

    windows: list[tuple[int, int]] = []
    stream = PlusPlusStream(net, window, lambda *ends: windows.append(ends))
    stream.add(torch.from_numpy(arrays["seq_in_queries"]))
    given = [stream.push(stream.encode(frame)) for frame in _frames(arrays["seq_in_frames"])] + [stream.flush()]
    return out | {
        "seq_out_trajs": torch.cat([part for part in given if part is not None]).numpy(),
        "seq_out_windows": np.array(windows, np.int32),
    }


def _first_number(words: int | str) -> int:
    """The case says "6 here; published inference 16"."""
    found = re.search(r"\d+", str(words))
    assert found, words
    return int(found[0])
