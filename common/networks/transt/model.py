"""The whole network: templates once, then one search region per object and frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.networks.transt.backbone import Body, Joiner, position_table
from common.networks.transt.fusion import FusionNetwork
from common.networks.vision_layers import Perceptron, to_tokens


@dataclass(frozen=True)
class TransTConfig:
    """layers: of fusion. template_size, search_size: sides of the crops in pixels, multiples of 8. width, heads, hidden: of
    the attention. stem, depths: width and blocks of the ResNet.
    """

    layers: int = 4
    template_size: int = 128
    search_size: int = 256
    width: int = 256
    heads: int = 8
    hidden: int = 2048
    stem: int = 64
    depths: tuple[int, int, int] = (3, 4, 6)

    @property
    def grid(self) -> int:
        """Tokens along a search region's side."""
        return self.search_size // 8


CONFIGS = {"TransT-N4": TransTConfig(4), "TransT-N2": TransTConfig(2)}


class TransT(nn.Module):
    """Either published size; objects are the batch."""

    where_template: Tensor
    where_search: Tensor

    def __init__(self, config: TransTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.featurefusion_network = FusionNetwork(width, config.heads, config.hidden, config.layers)
        self.class_embed = Perceptron((width, width, width, 2))
        self.bbox_embed = Perceptron((width, width, width, 4))
        self.input_proj = nn.Conv2d(16 * config.stem, width, 1)
        self.backbone = nn.Sequential(Joiner(Body(config.stem, config.depths)))
        for name, size in (("where_template", config.template_size), ("where_search", config.search_size)):
            self.register_buffer(name, position_table(width, size // 8), persistent=False)
        # Convolutions take about a tenth less time on a CPU.
        self.backbone.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor) -> Tensor:
        """Normalised crops (n, 3, s, s) -> tokens (n, (s / 8)^2, width); templates' are kept, the rest is per frame."""
        return to_tokens(self.input_proj(self.backbone(images)))

    def search(self, images: Tensor, templates: Tensor) -> tuple[Tensor, Tensor]:
        """images: (n, 3, search_size, search_size), normalised. templates: from `encode`.

        Returns logits float32 (n, tokens, 2), column 0 for the object, and boxes float32 (n, tokens, 4) centre x, centre
        y, width, height in 0..1 of the search region; tokens are row-major.
        """
        fused = self.featurefusion_network(templates, self.encode(images), self.where_template, self.where_search)
        logits: Tensor = self.class_embed(fused).float()
        return logits, torch.sigmoid(self.bbox_embed(fused).float())
