"""CoTracker3, online and offline, beside the published code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from common.networks.cotracker.network import Config, CoTracker, Tracks, grid
from common.networks.cotracker.streams import Frame, Stream
from tests.parity.cases import Arrays, Case, prepare


def build(case: Case) -> CoTracker:
    config: dict[str, Any] = case["config"]
    network = CoTracker(
        Config(
            window=config["window_len"],
            resolution=tuple(config["model_resolution"]),
            stride=config["stride"],
            radius=config["corr_radius"],
            levels=config["corr_levels"],
            virtual=config["num_virtual_tracks"],
            iterations=config["iters"],
        )
    )
    prepare(network, case)
    return network.requires_grad_(False)


@torch.inference_mode()
def run_case(case: Case, *, grid_only: bool = False, ahead_only: bool = False) -> Arrays:
    """The case's outputs. grid_only: of the online network's sequence only the one with support points; ahead_only: of the
    offline network's only the one that is not reversed."""
    network, arrays = build(case), case["arrays"]
    online = "Online" in case["config"]["class"]
    out: Arrays = {}
    if "single_in_frames" in arrays:
        frames, size = _encoded(network, arrays["single_in_frames"]), arrays["single_in_frames"].shape[1:3]
        found = _track(network, frames, size, arrays["single_in_queries"], online=online)
        out = {
            "single_out_coords": found.xy.numpy(),
            "single_out_vis": found.visibility.sigmoid().numpy(),
            "single_out_conf": found.confidence.sigmoid().numpy(),
        }
    frames, size = _encoded(network, arrays["seq_in_frames"]), arrays["seq_in_frames"].shape[1:3]
    if online:
        return out | _online(network, frames, size, arrays["seq_in_queries"], grid_only)
    return out | _offline(network, frames, size, arrays["seq_in_queries"], ahead_only)


def _encoded(network: CoTracker, frames: np.ndarray) -> list[Frame]:
    stream = Stream(network, frames.shape[1:3])
    return [stream.encode(frame) for frame in frames]


def _track(
    network: CoTracker,
    frames: list[Frame],
    size: tuple[int, int],
    queries: np.ndarray,
    *,
    online: bool,
    grid_at: int | None = None,
) -> Tracks:
    """The stream over all frames. queries: (n, 3) t, x, y; grid_at: the frame of the 6 x 6 support grid, which is left
    out again."""
    window = network.config.window if online else len(frames)
    stream = Stream(network, size, window, window // 2 if online else window, pad=online)
    stream.add(torch.from_numpy(queries[:, 1:]), torch.from_numpy(queries[:, 0]))
    if grid_at is not None:
        stream.add_grid(grid(6, network.config.resolution), grid_at)
    given = [stream.push(frame) for frame in frames] + [stream.flush()]
    parts = [tracks for tracks in given if tracks is not None]
    n = len(queries)
    return Tracks(
        torch.cat([p.xy for p in parts])[:, :n],
        torch.cat([p.visibility for p in parts])[:, :n],
        torch.cat([p.confidence for p in parts])[:, :n],
    )


def _online(
    network: CoTracker, frames: list[Frame], size: tuple[int, int], queries: np.ndarray, grid_only: bool
) -> Arrays:
    out: Arrays = {}
    for suffix, grid_at in (("", None), ("_support", 0))[grid_only:]:
        found = _track(network, frames, size, queries, online=True, grid_at=grid_at)
        visibility, confidence = found.visibility.sigmoid().numpy(), found.confidence.sigmoid().numpy()
        out |= {
            f"seq_out_tracks{suffix}": found.xy.numpy(),
            f"seq_out_vis_prob{suffix}": visibility,
            f"seq_out_conf_prob{suffix}": confidence,
            f"seq_out_visible{suffix}": visibility * confidence > 0.6,
        }
    return out


def _offline(
    network: CoTracker, frames: list[Frame], size: tuple[int, int], queries: np.ndarray, ahead_only: bool
) -> Arrays:
    ahead = _track(network, frames, size, queries, online=False, grid_at=0)
    tracks, visibility = ahead.xy.numpy(), ahead.visibility.sigmoid().numpy()
    out: Arrays = {
        "seq_mid_raw_vis_prob": visibility,
        "seq_mid_raw_conf_prob": ahead.confidence.sigmoid().numpy(),
        **_answers("", tracks, visibility, queries),
    }
    if ahead_only:
        return out
    turned = queries * np.float32([-1, 1, 1]) + np.float32([len(frames) - 1, 0, 0])
    # The published code puts the support grid on the first frame of the clip, which is the last one of the reversed clip.
    behind = _track(network, frames[::-1], size, turned, online=False, grid_at=len(frames) - 1)
    both, both_visibility = behind.xy.numpy()[::-1], behind.visibility.sigmoid().numpy()
    earlier = np.arange(len(frames))[:, None] < queries[:, 0]
    joined = np.where(earlier[..., None], both, tracks)
    seen = np.where(earlier, both_visibility[::-1], visibility)
    out["seq_mid_raw_vis_prob_reversed_pass"] = both_visibility
    return out | _answers("_backward", joined, seen, queries)


def _answers(suffix: str, xy: np.ndarray, probability: np.ndarray, queries: np.ndarray) -> Arrays:
    """What the published predictor gives: on its own frame a point is where it was asked for."""
    at = queries[:, 0].astype(int), np.arange(len(queries))
    xy, visible = xy.copy(), probability > 0.9
    xy[at], visible[at] = queries[:, 1:], True
    return {f"seq_out_tracks{suffix}": xy, f"seq_out_visible{suffix}": visible}
