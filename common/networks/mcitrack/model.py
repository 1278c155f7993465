"""The whole network: templates once each, then one search region per object and frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.networks.mcitrack.config import MCITrackConfig
from common.networks.mcitrack.encoder import Encoder
from common.networks.mcitrack.head import CenterHead
from common.networks.mcitrack.neck import Neck
from common.networks.vision_layers import to_grid


class Maps(NamedTuple):
    """Over the search grid, float32: score (n, 1, g, g) 0..1; size (n, 2, g, g) width, height in 0..1 of the search region;
    offset (n, 2, g, g) x, y of the centre from its cell's corner, in cells.
    """

    score: Tensor
    size: Tensor
    offset: Tensor

    def boxes(self, index: Tensor) -> Tensor:
        """index: (n,) cells, row-major -> boxes (n, 4) centre x, centre y, width, height in 0..1 of the search region."""
        side = self.score.shape[-1]
        at = index.view(-1, 1, 1).expand(-1, 2, 1)
        size, offset = (m.flatten(2).gather(2, at)[..., 0] for m in (self.size, self.offset))
        cell = torch.stack((index % side, index // side), 1).to(offset.dtype)
        return torch.cat(((cell + offset) / side, size), 1)


class MCITrack(nn.Module):
    """Any of the published variants; objects are the batch."""

    def __init__(self, config: MCITrackConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.neck = Neck(config)
        self.decoder = CenterHead(config.width, config.head)

    def templates(self, images: Tensor, boxes: Tensor) -> Tensor:
        """images: (n, 3, template_size, template_size), normalised. boxes: (n, 4) x, y, width, height of the objects in
        0..1 of them. Returns tokens (n, tokens, width), to be kept.
        """
        return self.encoder.body.templates(images, boxes)

    def first_state(self, count: int) -> Tensor:
        """The state (count, 4, tokens, channels, states) before the first frame."""
        config = self.config
        like = self.encoder.body.search_token
        shape = (count, 4, config.search_grid**2, 2 * config.width, config.state)
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def search(self, images: Tensor, templates: Tensor, state: Tensor) -> tuple[Maps, Tensor]:
        """images: (n, 3, search_size, search_size), normalised. templates: (n, tokens of all templates, width). state:
        from the frame before. Returns the head's maps and the state after this frame.
        """
        body = self.encoder.body
        tokens = torch.cat((body.search(images), templates), 1)
        found, state = self.neck(tokens, body.blocks, body.fc_norm, state)
        return Maps(*self.decoder(to_grid(found, self.config.search_grid))), state
