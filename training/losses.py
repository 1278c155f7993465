"""What the box network is trained to: where the centre is, which cells show the object, and the sides of its box."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common.networks.tiny.network import STRIDE, Answer
from training.samples import Window


class Losses(NamedTuple):
    """total: what is minimised. overlap: mean intersection over union of the box at the surest cell, of objects that are
    there. told: how often the surest cell says rightly (above or below one half) whether the object is there."""

    total: Tensor
    overlap: float
    told: float


def compare(answer: Answer, window: Window) -> Losses:
    """Losses of a batch of answers on windows of the same size."""
    n, h, w = answer.centre.shape
    device = answer.centre.device
    x = (torch.arange(w, device=device) * STRIDE + STRIDE / 2)[None, None, :]
    y = (torch.arange(h, device=device) * STRIDE + STRIDE / 2)[None, :, None]
    x1, y1, x2, y2 = (window.boxes[:, k, None, None] for k in range(4))
    width, height = (x2 - x1).clamp(min=4), (y2 - y1).clamp(min=4)
    seen = window.seen[:, None, None]
    spread_x, spread_y = (0.17 * width).clamp(min=4.5), (0.17 * height).clamp(min=4.5)
    bell = torch.exp(-0.5 * (((x - (x1 + x2) / 2) / spread_x) ** 2 + ((y - (y1 + y2) / 2) / spread_y) ** 2)) * seen
    chance = torch.sigmoid(answer.centre)
    entropy = functional.binary_cross_entropy_with_logits(answer.centre, bell, reduction="none")
    # Quality focal loss: Li et al., "Generalized focal loss", NeurIPS 2020; with more weight around centres.
    centre = ((bell - chance).abs() ** 2 * entropy * (1 + 3 * (bell > 0.4))).sum() / n
    left, top, right, bottom = answer.sides.unbind(1)
    overlap, generalised = _overlaps((x - left, y - top, x + right, y + bottom), (x1, y1, x2, y2))
    weight = bell * (bell > 0.35)
    box = ((1 - generalised) * weight).sum() / weight.sum().clamp(min=1)
    body = functional.binary_cross_entropy_with_logits(answer.body, window.body)
    with torch.no_grad():
        best = answer.centre.flatten(1).argmax(1)
        met = overlap.flatten(1).gather(1, best[:, None])[:, 0]
        mean = float((met * window.seen).sum() / window.seen.sum().clamp(min=1))
        told = float(((chance.flatten(1).amax(1) > 0.5).float() == window.seen).float().mean())
    return Losses(0.6 * centre + 1.5 * box + 2.0 * body, mean, told)


def _overlaps(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one of Rezatofighi et al., CVPR 2019."""
    wide = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp(min=0)
    high = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp(min=0)
    common = wide * high
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    hull_x = torch.maximum(a[2], b[2]) - torch.minimum(a[0], b[0])
    hull_y = torch.maximum(a[3], b[3]) - torch.minimum(a[1], b[1])
    hull = (hull_x * hull_y).clamp(min=1e-3)
    overlap = common / union.clamp(min=1e-3)
    return overlap, overlap - (hull - union) / hull
