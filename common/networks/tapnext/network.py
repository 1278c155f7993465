"""TAPNext and TAPNext++: tracking points as next-token prediction, frame by frame with a state of fixed size.

Zholus et al., "TAPNext: Tracking Any Point (TAP) as Next Token Prediction", ICCV 2025, https://arxiv.org/abs/2504.05579.
Positions are (x, y) on a picture of 256 x 256 whatever the size of the frames, (0, 0) its top-left corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.tapnext.recurrent import State, TimeBlock

BINS = 256
SPREAD = 20
"""Bins around the likeliest one that count in a position."""
TEMPERATURE = 0.5
RADIUS = 8
"""Pixels around a position in which its certainty is gathered."""


@dataclass(frozen=True)
class Config:
    """native: side of the pictures that the table of positions was made for. The values are those of the published
    checkpoints; smaller ones are for tests."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 8
    native: int = 256
    hidden: int = 256


@dataclass(frozen=True)
class Step:
    """n points in one frame: xy (n, 2), visible (n,) logits, logits (n, 512) of rows then columns, certainty (n,): the
    probability that the point is within 8 pixels."""

    xy: Tensor
    visible: Tensor
    logits: Tensor
    certainty: Tensor


class Attention(nn.Module):
    """Multi-head attention among tokens (n, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, width = x.shape
        mixed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = mixed.view(1, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value)[0]
        out: Tensor = self.out_proj(found.transpose(0, 1).flatten(1))
        return out


class SpaceBlock(nn.Module):
    """A block of a vision transformer, over the tokens of one frame."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        # The published block has dropouts between, which have no parameters but count in the names.
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attention(self.ln_1(x))
        result: Tensor = x + self.mlp(self.ln_2(x))
        return result


class Block(nn.Module):
    """Over time for each token, then over the tokens of the frame."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.ssm_block = TimeBlock(config.width, config.heads)
        self.vit_block = SpaceBlock(config.width, config.heads)

    def forward(self, x: Tensor, before: State | None) -> tuple[Tensor, State]:
        x, state = self.ssm_block(x, before)
        return self.vit_block(x), state


def _head(width: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Linear(hidden, outputs),
    )


class TapNext(nn.Module):
    """The network. One call per frame."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.lin_proj = nn.Conv2d(3, width, config.patch, config.patch)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.encoder_norm = nn.LayerNorm(width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.unknown_token = nn.Parameter(torch.zeros(1, 1, width))
        self.point_query_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.image_pos_emb = nn.Parameter(torch.zeros(1, (config.native // config.patch) ** 2, width))
        self.visible_head = _head(width, config.hidden, 1)
        self.coordinate_head = _head(width, config.hidden, 2 * BINS)

    def forward(
        self, frame: Tensor, number: int, asked: Tensor, xy: Tensor, before: list[State] | None
    ) -> tuple[Step, list[State]]:
        """The points in the next frame.

        frame: (3, h, w) in -1..1, sides divisible by the patch. number: of the frame. asked: (n,) numbers of the frames on
        which the points were asked for, xy: (n, 2) where. before: state after the last frame; None = this is the first.
        """
        patches = self.lin_proj(frame[None])
        h, w = patches.shape[-2:]
        x = torch.cat([patches[0].flatten(1).T + self._places(h, w), self._points(number, asked, xy)])
        after = []
        for index, block in enumerate(self.blocks):
            x, state = block(x, None if before is None else before[index])
            after.append(state)
        points = self.encoder_norm(x[h * w :]).float()
        with torch.autocast(points.device.type, enabled=False):  # positions need all digits
            return self._read(points), after

    def _places(self, h: int, w: int) -> Tensor:
        """Embedding of the patches' positions, (h * w, width)."""
        native = self.config.native // self.config.patch
        if h * w == native * native:
            return self.image_pos_emb[0]
        table = self.image_pos_emb.view(1, native, native, -1).movedim(-1, 1)
        return F.interpolate(table, (h, w), mode="bicubic")[0].flatten(1).T

    def _points(self, number: int, asked: Tensor, xy: Tensor) -> Tensor:
        """Tokens of the points (n, width): the question on its own frame, a placeholder before and another after."""
        here = (asked == number)[:, None]
        query = self.point_query_token[0, 0] + position_embedding(xy, self.config.width, self.config.native)
        later = torch.where((asked > number)[:, None], self.unknown_token[0], self.mask_token[0, 0])
        return torch.where(here, query, later)

    def _read(self, points: Tensor) -> Step:
        logits = self.coordinate_head(points)
        rows, columns = logits.chunk(2, -1)
        yx = torch.stack([_soft_argmax(rows), _soft_argmax(columns)], -1)
        return Step(yx.flip(-1), self.visible_head(points)[:, 0], logits, _certainty(yx, rows, columns))


def position_embedding(xy: Tensor, width: int, native: int) -> Tensor:
    """Sines and cosines of points (n, 2), (n, width).

    The published network keeps a table with an entry per pixel and reads it bilinearly, entry i at i + 0.5, nothing
    beyond its edge. The table is a product of a function of x and one of y, so that two entries each are all it takes.
    """
    quarter = width // 4
    rates = 1 / 10000 ** (torch.arange(quarter, device=xy.device, dtype=torch.float64) / (quarter - 1))
    cell = xy.double() - 0.5
    low = cell.floor()
    entries = torch.stack([low, low + 1], -1)
    share = torch.stack([low + 1 - cell, cell - low], -1) * ((entries >= 0) & (entries < native))
    angle = entries[..., None] * rates
    waves = torch.cat([angle.sin(), angle.cos()], -1)
    x, y = (share[..., None] * waves).sum(-2).unbind(1)
    inside_x, inside_y = share.sum(-1, keepdim=True).unbind(1)
    return torch.cat([x * inside_y, y * inside_x], -1).float()


def _soft_argmax(logits: Tensor) -> Tensor:
    """Mean position (n,) in the bins near the likeliest one, of logits (n, bins)."""
    bins = torch.arange(logits.shape[-1], device=logits.device)
    near = (bins - logits.argmax(-1, keepdim=True)).abs() <= SPREAD
    share = torch.softmax(logits * TEMPERATURE, -1) * near
    return (share * bins).sum(-1) / share.sum(-1) + 0.5


def _certainty(yx: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Probability (n,) that the points are within `RADIUS` of yx (n, 2). As in the published code, the square in which the
    probability is gathered has its axes exchanged in the test of the radius."""
    side = 2 * RADIUS + 1
    shares, offsets = [], []
    for position, logits in zip(yx.unbind(-1), (rows, columns), strict=True):
        start = (position - RADIUS - 0.5).floor().clamp(0, logits.shape[-1] - side).long()
        index = start[:, None] + torch.arange(side, device=yx.device)
        shares.append(torch.softmax(logits, -1).gather(1, index))
        offsets.append((index + 0.5 - position[:, None]).square())
    near = offsets[1][:, :, None] + offsets[0][:, None] <= RADIUS**2 + 1e-8
    return (shares[0][:, :, None] * shares[1][:, None] * near).sum((1, 2))


def visible_probability(step: Step) -> Tensor:
    """Probability (n,) that a point is seen; above 0.5 counts as visible."""
    return torch.sigmoid(step.visible)


def without_tables(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published checkpoint's entries without wrapper, prefix and the table of positions, which is computed here."""
    return {
        name.removeprefix("tapnext."): value for name, value in entries.items() if not name.endswith("query_pos_embed")
    }
