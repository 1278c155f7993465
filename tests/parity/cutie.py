"""Cutie as wrapped here on cases of the official repository: one pass over two frames, and whole clips."""

from __future__ import annotations

import ast
import hashlib
import re

import numpy as np
import torch
from torch import Tensor, nn

from common.networks.xmem.pictures import Frame
from common.trackers.masks.cutie_engine import CutieEngine, CutieSettings
from common.trackers.masks.cutie_network import build
from tests.parity.cases import Arrays, Case, prepare


@torch.inference_mode()
def run_case(case: Case) -> Arrays:
    """Every array of the case that is not an input, by its name."""
    small = case["parameters"]["pix_feat_proj.weight"][1] == 256
    network = build({"pixel_encoder": {"type": "resnet18", "ms_dims": [256, 128, 64]}} if small else None)
    prepare(network, case)
    out = single_pass(network, *clip_of(case, "main"))
    for tag, run in case["runs"].items():
        out |= play(network, case, tag, run)
    return out


def single_pass(network: nn.Module, frames: np.ndarray, labels: np.ndarray) -> Arrays:
    height, width = (side // 16 * 16 for side in frames.shape[1:3])
    images = torch.from_numpy(frames[:2, :height, :width]).permute(0, 3, 1, 2).float() / 255
    masks = one_hot(labels[0, :height, :width]).float()[None]
    features, pixels = network.encode_image(images[:1])
    key, shrinkage, selection = network.transform_key(features[0])
    sensory = torch.zeros(1, masks.shape[1], network.sensory_dim, height // 16, width // 16)
    value, sensory, summaries, _ = network.encode_mask(images[:1], pixels, sensory, masks, deep_update=True)
    next_features, next_pixels = network.encode_image(images[1:])
    fused = network.pixel_fusion(next_pixels, value, sensory, masks)
    readout, _ = network.readout_query(fused, summaries.unsqueeze(2))
    after, logits, probabilities = network.segment(next_features, readout, sensory)
    mids: dict[str, Tensor] = {
        "a_f16_ch0_32": features[0][:, :32],
        "a_pix_feat_ch0_32": pixels[:, :32],
        "a_key": key,
        "a_shrinkage": shrinkage,
        "a_selection_ch0_16": selection[:, :16],
        "a_mask_value_ch0_32": value[:, :, :32],
        "a_sensory_ch0_32": sensory[:, :, :32],
        "a_object_summaries_ch0_32_and_count": torch.cat([summaries[..., :32], summaries[..., -1:]], -1),
        "a_pixel_fusion_ch0_32": fused[:, :, :32],
        "a_object_readout_ch0_32": readout[:, :, :32],
        "a_out_logits_s2": logits[:, :, ::2, ::2],
        "a_out_prob_s2": probabilities[:, :, ::2, ::2],
        "a_sensory_after_segment_ch0_32": after[:, :, :32],
    }
    return {n: t.numpy() for n, t in mids.items()} | {"a_note_mask_value_used_as_readout": np.int8(1)}


def play(network: nn.Module, case: Case, tag: str, run: Case) -> Arrays:
    """One of the case's runs. Objects join and leave where "late" and "delete" stand in its name."""
    frames, labels = clip_of(case, "late" if "late" in tag else "main")
    frames = frames[: run["frames"]]
    drawn = {0: labels[0]}
    leaves = None
    if "late" in tag:
        late = case["arrays"]["b_late_labels_t"]
        drawn[0] = np.where(np.isin(labels[0], np.unique(late[late > 0])), 0, labels[0])
        drawn[_number(r"on frame (\d+)", case["inputs"]["b_late_labels_t"], 4)] = late
        if "delete" in tag:
            note = case.get("run_notes", {}).get(tag, "")
            leaves = _number(r"before step (\d+)", note, 7), _number(r"object (\d+) deleted", note, 1)
    height, width = frames.shape[1:3]
    side, working = run.get("max_internal_size", -1), (height, width)
    if 0 < side < min(height, width):
        working = int(height / min(height, width) * side), int(width / min(height, width) * side)
    frame = Frame((height, width), working)
    engine = CutieEngine(network, settings(run), frame)
    ids = [int(i) for labels_t in drawn.values() for i in np.unique(labels_t) if i]
    wanted = case["arrays"].get(f"b_{tag}_prob_s4")
    channels = wanted.shape[1] if wanted is not None else max(4, 1 + len(ids))
    probabilities, found, memsize = np.zeros((len(frames), channels, height, width), np.float32), [], []
    for t, image in enumerate(frames):
        if leaves and t == leaves[0]:
            # The package's own way, with its defect, as the case holds its results; ours is engine.remove.
            engine.core.delete_objects([leaves[1]])
        here = [int(i) for i in np.unique(drawn[t]) if i] if t in drawn else []
        masks = one_hot(drawn[t]) if t in drawn else None
        maps = engine.step(torch.from_numpy(image), masks, here, last=t == len(frames) - 1)
        probabilities[t, : len(maps)] = frame.restore(maps).numpy()
        found.append(np.array([0, *engine.objects])[frame.labels(maps)[0].numpy()])
        memsize.append(engine.tokens)
    return {
        f"b_{tag}_prob_s4": probabilities[:, :, ::4, ::4],
        f"b_{tag}_ids": np.stack(found).astype(np.uint8),
        f"b_{tag}_memsize": np.array(memsize, np.int32),
    }


def settings(run: Case) -> CutieSettings:
    """A run's hyper-parameters; those it does not name are the published ones."""
    names = {
        "mem_every": "memory_every",
        "max_mem_frames": "short_term",
        "long_term.max_mem_frames": "working",
        "long_term.min_mem_frames": "kept",
        "long_term.num_prototypes": "prototypes",
        "long_term.max_num_tokens": "long_tokens",
        "long_term.buffer_tokens": "buffer",
        "top_k": "top_k",
    }
    given = {ours: run[theirs] for theirs, ours in names.items() if theirs in run}
    return CutieSettings(long_term=run.get("use_long_term", False), **given)


def _number(pattern: str, text: str, otherwise: int) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else otherwise


def one_hot(labels: np.ndarray) -> Tensor:
    """Label map to (objects, H, W) bool, in the order of the labels."""
    return torch.from_numpy(np.stack([labels == i for i in np.unique(labels) if i]))


def clip_of(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (n, H, W, 3) and label maps (n, H, W) of a clip that the case's recipe describes, checked by its hash."""
    call = ast.parse(case["recipe"][name], mode="eval").body
    assert isinstance(call, ast.Call)
    frames, labels = _render(*(ast.literal_eval(argument) for argument in call.args))
    assert hashlib.sha256(frames.tobytes()).hexdigest() == case["recipe"]["sha256"][name], f"clip {name} differs"
    return frames, labels


def _render(
    seed: int, count: int, height: int, width: int, objects: list[tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Ellipses (cy, cx, ry, rx, vy, vx) with textures of their own over a ground that drifts; whole numbers only."""
    random = np.random.Generator(np.random.PCG64(seed))
    ground = _texture(random, height + 64, width + 64, 16, 0, 200)
    skins = [_texture(random, 2 * o[2] + 1, 2 * o[3] + 1, 6, 60, 256) for o in objects]
    frames, labels = np.zeros((count, height, width, 3), np.uint8), np.zeros((count, height, width), np.uint8)
    for t in range(count):
        down, right = min(t, 60), min(2 * t, 60)
        frames[t] = ground[down : down + height, right : right + width]
        for number, ((cy, cx, ry, rx, vy, vx), skin) in enumerate(zip(objects, skins, strict=True), 1):
            dy, dx = np.mgrid[-ry : ry + 1, -rx : rx + 1]
            y, x = cy + vy * t + dy, cx + vx * t + dx
            inside = (dy * rx) ** 2 + (dx * ry) ** 2 <= (ry * rx) ** 2
            inside &= (y >= 0) & (y < height) & (x >= 0) & (x < width)
            frames[t][y[inside], x[inside]] = skin[inside]
            labels[t][y[inside], x[inside]] = number
    return frames, labels


def _texture(random: np.random.Generator, height: int, width: int, cell: int, low: int, high: int) -> np.ndarray:
    """Random colours on a grid of that cell size, interpolated bilinearly and rounded down."""
    grid = random.integers(low, high, (height // cell + 2, width // cell + 2, 3), np.int64)
    (row, down), (column, right) = (np.divmod(np.arange(side), cell) for side in (height, width))
    down, right = down[:, None, None], right[None, :, None]
    top, bottom = (grid[r][:, column] * (cell - right) + grid[r][:, column + 1] * right for r in (row, row + 1))
    return (top * (cell - down) + bottom * down) // cell**2
