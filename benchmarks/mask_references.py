"""The official implementations of mask networks, driven as their authors do, for `mask_networks.py` to time beside ours."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from common.geometry.types import Mask
from common.video.contract import Image

Step = Callable[[Image], object]
PERIOD = 5
"""XMem memorises every fifth frame."""
SAM2_CONFIGS = {"sam2.1-tiny": "t", "sam2.1-small": "s", "sam2.1-base-plus": "b+", "sam2.1-large": "l"}


def xmem(folder: str, device: str, image: Image, masks: Sequence[Mask]) -> Step:
    """A checkout of github.com/hkchengrex/XMem, with seeded weights."""
    sys.path.insert(0, folder)
    import torch
    from inference.inference_core import InferenceCore
    from model import modules, network

    from common.networks.device import resolve_device
    from common.networks.seeding import fill
    from common.networks.xmem.pictures import Frame

    build = {name: getattr(modules.resnet, name) for name in ("resnet18", "resnet50")}
    modules.resnet.resnet18 = lambda pretrained=True, extra_dim=0: build["resnet18"](False, extra_dim)
    modules.resnet.resnet50 = lambda pretrained=True, extra_dim=0: build["resnet50"](False, extra_dim)
    where = resolve_device(device)
    settings: dict[str, Any] = {
        "mem_every": PERIOD,
        "deep_update_every": -1,
        "enable_long_term": True,
        "enable_long_term_count_usage": True,
        "top_k": 30,
        "max_mid_term_frames": 10,
        "min_mid_term_frames": 5,
        "num_prototypes": 128,
        "max_long_term_elements": 10_000,
        "hidden_dim": 64,
        "key_dim": 64,
        "value_dim": 512,
    }
    net = network.XMem(settings).eval().to(where)
    fill(net)
    core = InferenceCore(net, settings)
    core.set_all_labels(list(range(1, len(masks) + 1)))
    frame = Frame(image.shape[:2], image.shape[:2])  # type: ignore[arg-type]
    amp = torch.autocast("cuda", enabled=where.type == "cuda")

    def step(picture: Image, *labels: object) -> object:
        with torch.no_grad(), amp:
            prepared = frame.unpad(frame.picture(torch.from_numpy(np.array(picture)), where)[0])
            return core.step(prepared, *labels).argmax(0).cpu().numpy()

    step(image, torch.from_numpy(np.stack([m.to_array() for m in masks])).float().to(where), core.all_labels)
    return step


def sam2(name: str, picture: int, device: str, images: Sequence[Image], frames: int, masks: Sequence[Mask]) -> Step:
    """The package `sam2`: its video predictor over a folder of JPEG files, as its README does, with seeded weights.

    picture: side of the square picture. frames: length of the clip, which it reads whole before it begins. A step takes
    the clip's next frame, whatever it is given.
    """
    import torch
    from sam2.build_sam import build_sam2_video_predictor

    from common.networks.device import resolve_device
    from common.networks.seeding import fill

    where, grid = resolve_device(device), f"[{picture // 16},{picture // 16}]"
    layer = "++model.memory_attention.layer"
    predictor = build_sam2_video_predictor(
        f"configs/sam2.1/sam2.1_hiera_{SAM2_CONFIGS[name]}.yaml",
        device=str(where),
        hydra_overrides_extra=[
            f"++model.image_size={picture}",
            f"{layer}.self_attention.feat_sizes={grid}",
            f"{layer}.cross_attention.feat_sizes={grid}",
        ],
    )
    predictor.fill_hole_area = 0  # needs its CUDA extension
    fill(predictor)
    inference = torch.autocast("cuda", torch.bfloat16, enabled=where.type == "cuda")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), inference:
        for number, image in enumerate(islice(cycle(images), frames)):
            PilImage.fromarray(image).save(Path(folder) / f"{number:05}.jpg", quality=95)
        state = predictor.init_state(folder)
        for key, mask in enumerate(masks):
            predictor.add_new_mask(state, 0, key, mask.to_array())
        tracked = predictor.propagate_in_video(state)
        next(tracked)  # the drawn frame

    def step(_: Image) -> object:
        with torch.inference_mode(), inference:
            _, _, logits = next(tracked)
            return (logits > 0).cpu().numpy()

    return step
