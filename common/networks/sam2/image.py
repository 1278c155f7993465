"""One picture: masks from a box and clicks, with the picture's features kept for the next click."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from common.networks.sam2.decoding import Features, fresh, head
from common.networks.sam2.inputs import Clicks, click_input


def masks(
    model: Any, features: Features, clicks: Clicks, shape: tuple[int, int], several: bool
) -> tuple[Tensor, Tensor]:
    """Logits (m, 1, h, w) and expected overlaps (m,), best first. shape: (H, W) of the picture.

    several: three masks, for a prompt that can mean the whole, a part or a part of that; else one, which is steadier for
    a box or more than one click.
    """
    xy, labels = click_input(clicks, shape, model.image_size)
    top = fresh(model, features)
    logits, quality, _, _ = head(model, top, features, (xy.to(top.device), labels.to(top.device)), several=several)
    order = quality[0].argsort(descending=True, stable=True)
    return logits[0, order][:, None], quality[0, order]
