"""XMem on cases of the published network: one pass over two frames, and whole clips with all of its memory."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from common.networks.xmem.engine import Engine, EngineSettings
from common.networks.xmem.memory import MemorySettings, similarity
from common.networks.xmem.network import Sizes, XMem, aggregate, aggregate_logits
from common.networks.xmem.pictures import Frame, by_short_side
from tests.parity.cases import Arrays, Case, prepare


def build(case: Case) -> XMem:
    """The network with the case's weights."""
    shapes = {name: torch.empty(shape, device="meta") for name, shape in case["parameters"].items()}
    network = XMem(Sizes.of(shapes))
    prepare(network, case)
    return network


@torch.inference_mode()
def run_case(case: Case) -> Arrays:
    """Every array of the case that is not an input, by its name."""
    network, arrays = build(case), case["arrays"]
    out = single_pass(network, arrays) if "a_frames" in arrays else {}
    for tag, run in case.get("runs", {}).items():
        out |= clip(network, case, tag, run)
    return out


def single_pass(network: XMem, arrays: Arrays) -> Arrays:
    frames = torch.from_numpy(arrays["a_frames"])
    size = (frames.shape[1], frames.shape[2])
    frame = Frame(size, size)
    masks = frame.masks(one_hot(arrays["a_labels"]), network.device)
    first = frame.picture(frames[0], network.device)
    features = network.encode_picture(first)
    hidden = torch.zeros(len(masks), network.sizes.hidden, *features.key.shape[1:])
    value, hidden = network.encode_masks(first, features, masks, hidden, deep=True)
    asked = network.encode_picture(frame.picture(frames[1], network.device))
    likeness = similarity(
        features.key.flatten(1).T, features.shrinkage.flatten(), asked.key.flatten(1).T, asked.selection.flatten(1).T
    )
    readout = (value.flatten(2) @ torch.softmax(likeness, 1).T).view_as(value)
    own, after = network.decoder(asked, readout, hidden, True)
    own = torch.sigmoid(own)
    mids: dict[str, Tensor] = {
        "a_key": features.key[None],
        "a_shrinkage": features.shrinkage[None, None],
        "a_selection": features.selection[None, ::4],
        "a_f16_ch0_32": features.f16[:, :32],
        "a_f8_ch0_8": features.f8[:, :8],
        "a_f4_ch0_4": features.f4[:, :4],
        "a_value_ch0_32": value[None, :, :32],
        "a_hidden_after_value": hidden[None, :, ::4],
        "a_similarity": likeness.T[None, :, ::4],
        "a_readout_ch0_32": readout[None, :, :32],
        "a_hidden_after_segment": after[None, :, ::4],
        "a_out_logits": aggregate_logits(own)[None, :, ::2, ::2],
        "a_out_prob": aggregate(own)[None, :, ::2, ::2],
    }
    return {name: tensor.numpy() for name, tensor in mids.items()}


def clip(network: XMem, case: Case, tag: str, run: Case) -> Arrays:
    """One of the case's runs. Names: b_late_* are the inputs of run "late", b_* those of all others."""
    arrays = case["arrays"]
    prefix = f"b_{tag}" if f"b_{tag}_frames" in arrays else "b"
    frames = torch.from_numpy(arrays[f"{prefix}_frames"])[: run.get("frames")]
    labels = {0: arrays[f"{prefix}_labels0"]}
    if f"{prefix}_labels_t" in arrays:
        told = re.search(r"on frame (\d+)", case["inputs"][f"{prefix}_labels_t"])
        labels[int(told[1]) if told else 5] = arrays[f"{prefix}_labels_t"]
    memory = MemorySettings(
        working_frames=run["max_mid_term_frames"],
        kept_frames=run["min_mid_term_frames"],
        prototypes=run["num_prototypes"],
        long_tokens=run["max_long_term_elements"],
        top_k=run["top_k"],
        long_term=run["enable_long_term"],
    )
    settings = EngineSettings(run["mem_every"], run["deep_update_every"], memory)
    height, width = frames.shape[1:3]
    frame = Frame((height, width), by_short_side(height, width, run["size"]))
    engine = Engine(network, settings, frame)
    ids = [int(i) for t in labels for i in np.unique(labels[t]) if i]
    probabilities, index, memsize = np.zeros((len(frames), 1 + len(ids), height, width), np.float32), [], []
    for t, image in enumerate(frames):
        drawn = [int(i) for i in np.unique(labels[t]) if i] if t in labels else []
        masks = one_hot(labels[t]) if t in labels else None
        maps = engine.step(image, masks, drawn, last=t == len(frames) - 1)
        probabilities[t, : len(maps)] = frame.restore(maps).numpy()
        index.append(frame.labels(maps)[0].numpy())
        memsize.append(engine.tokens)
    return {
        f"b_{tag}_prob_s4": probabilities[:, :, ::4, ::4],
        f"b_{tag}_index": np.stack(index).astype(np.uint8),
        f"b_{tag}_memsize": np.array(memsize, np.int32),
        f"b_{tag}_final_hidden_ch0_8": engine.hidden[None, :, :8].numpy(),
    }


def one_hot(labels: np.ndarray) -> Tensor:
    """Label map to (objects, H, W) bool, in the order of the labels."""
    return torch.from_numpy(np.stack([labels == i for i in np.unique(labels) if i]))
