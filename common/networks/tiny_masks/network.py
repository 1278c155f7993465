"""The network of the mask tracker `tiny_mask`: which pixels of a window are the object's, given all that speaks for it.

It reads the window's picture, the clues of the flow tracker (where the mask moved to, motion, what the colour classifier says) and
how alike every cell is to cells of two known pictures, the labelled one and the last, inside and outside their masks: the memory
read of Oh et al., "Video object segmentation using space-time memory networks", ICCV 2019, in small. What looks alike in
the last picture must also be near. The features that are compared are those of the box network (`common.networks.tiny`), unchanged.
The answer is a correction of the flow tracker's log odds, so that an untrained network changes nothing. Trained by
`training/masks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.networks.tiny.network import STRIDE as COARSE
from common.networks.tiny.network import Residual, TinyConfig, convolution

FINE = 2
"""Pixels per cell of the answer, each way."""

MULTIPLE = 8
"""Sides of windows are multiples of that many pixels."""

CLUES = 6
"""Planes beside the picture: prior, certainty of it, motion, both answers of the classifier, log odds."""

ODDS = 5
"""Which of them are the log odds, a quarter of them."""


@dataclass(frozen=True)
class MaskConfig:
    """fine, middle, low: channels at 2, 4 and 8 pixels per cell; raising them makes the network slower and finer. read: channels
    that are read from either known picture besides its mask. features: of the box network.
    """

    fine: int = 24
    middle: int = 32
    low: int = 64
    read: int = 8
    features: TinyConfig = TinyConfig()  # noqa: RUF009


class Known(NamedTuple):
    """A picture whose mask is known. keys (n, key, m) of unit length, values (n, 1 + read, m), the first the share of the cell
    within the mask. shape: rows and columns of the m cells."""

    keys: Tensor
    values: Tensor
    shape: tuple[int, int]


class MaskJudge(nn.Module):
    """See the module. Pictures are uint8 or float tensors (n, 3, height, width), RGB, 0..255, sides multiples of 8."""

    def __init__(self, config: MaskConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MaskConfig()
        tiny, fine, middle, low = config.features, config.fine, config.middle, config.low
        c = tiny.channels
        self.stem = nn.Sequential(convolution(3, tiny.stem, 4, 7), convolution(tiny.stem, tiny.stem))
        self.trunk = nn.Sequential(convolution(tiny.stem, c, 2), Residual(c), Residual(c))
        self.key = nn.Conv2d(c, tiny.key, 1)
        self.value = nn.Conv2d(c, config.read, 1)
        self.sharpness = nn.Parameter(torch.tensor([2.5, 2.5]))
        self.nearness = nn.Parameter(torch.tensor(-2.0))
        self.own = nn.Conv2d(c, low // 2, 1)
        self.own_middle = nn.Conv2d(tiny.stem, middle // 2, 1)
        self.at_fine = nn.Sequential(convolution(3 + CLUES, fine, FINE), convolution(fine, fine))
        self.at_middle = convolution(fine, middle, 2)
        self.join_middle = convolution(middle + middle // 2, middle)
        self.at_low = convolution(middle, low // 2, 2)
        self.join_low = nn.Sequential(convolution(low + 2 * (3 + config.read), low, kernel=1), Residual(low))
        self.to_middle = nn.Conv2d(low, middle, 1)
        self.from_middle = Residual(middle)
        self.to_fine = nn.Conv2d(middle, fine, 1)
        self.from_fine = Residual(fine)
        self.out = nn.Conv2d(fine, 1, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(1.0))
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def train(self, mode: bool = True) -> MaskJudge:
        """The features that come from the box network are never trained."""
        super().train(mode)
        self.stem.eval()
        self.trunk.eval()
        return self

    @torch.no_grad()
    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Features of pictures at 4 and 8 pixels per cell."""
        middle = self.stem(pictures.to(self.out.weight.dtype) / 64.0 - 2.0)
        return middle, self.trunk(middle)

    def remember(self, features: Tensor, share: Tensor) -> Known:
        """features: (n, channels, h, w) at 8 pixels per cell. share: (n, height, width) of every pixel, 0..1."""
        cells = functional.avg_pool2d(share[:, None].to(features.dtype), COARSE)
        values = torch.cat((cells, self.value(features) * cells), 1).flatten(2)
        return Known(self._keys(features), values, (features.shape[2], features.shape[3]))

    def forward(
        self, pictures: Tensor, features: tuple[Tensor, Tensor], clues: Tensor, first: Known, last: Known
    ) -> Tensor:
        """Log odds (n, height / 2, width / 2) that a cell is the object's.

        features: of pictures. clues: (n, CLUES, height, width). first: of the labelled picture, of any size. last: of the
        last picture, of the same window.
        """
        at_4, at_8 = features
        keys = self._keys(at_8)
        far = _distances(*last.shape, keys.device, keys.dtype) * functional.softplus(self.nearness)
        reads = [self._read(keys, first, 0, None), self._read(keys, last, 1, far)]
        shape = at_8.shape[2:]
        read = torch.cat([r.reshape(len(keys), -1, *shape) for r in reads], 1)
        fine = self.at_fine(torch.cat((pictures.to(clues.dtype) / 64.0 - 2.0, clues), 1))
        middle = self.join_middle(torch.cat((self.at_middle(fine), self.own_middle(at_4)), 1))
        low = self.join_low(torch.cat((self.at_low(middle), self.own(at_8), read), 1))
        middle = self.from_middle(middle + _doubled(self.to_middle(low)))
        fine = self.from_fine(fine + _doubled(self.to_fine(middle)))
        odds = functional.avg_pool2d(clues[:, ODDS], FINE)
        answer: Tensor = self.gain * 4.0 * odds + self.out(fine)[:, 0]
        return answer

    def _keys(self, features: Tensor) -> Tensor:
        return functional.normalize(self.key(features).flatten(2), dim=1)

    def _read(self, keys: Tensor, known: Known, number: int, far: Tensor | None) -> Tensor:
        """What cells (n, key, c) find in a known picture: (n, 3 + read, c). far: (c, m) how unlikely for being far away."""
        likeness = keys.transpose(1, 2) @ known.keys
        if far is not None:
            likeness = likeness - far
        weight = torch.softmax(likeness * self.sharpness[number].exp(), -1)
        share = known.values[:, None, 0]
        within = (likeness - 2.0 * (share < 0.4)).amax(-1)
        outside = (likeness - 2.0 * (share > 0.6)).amax(-1)
        read = weight @ known.values.transpose(1, 2)
        return torch.cat((read.transpose(1, 2), within[:, None], outside[:, None]), 1)


def _doubled(cells: Tensor) -> Tensor:
    return functional.interpolate(cells, scale_factor=2.0, mode="bilinear", align_corners=False)


def _distances(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Squared distances (m, m) between the cells of a grid, in tens of cells."""
    y, x = torch.meshgrid(
        torch.arange(rows, device=device, dtype=dtype), torch.arange(columns, device=device, dtype=dtype), indexing="ij"
    )
    place = torch.stack((y.flatten(), x.flatten()), 1) / 10.0
    return ((place[:, None] - place[None]) ** 2).sum(-1)
