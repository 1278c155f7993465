"""The published sizes of MixFormer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MixFormerConfig:
    """kind: which backbone and heads. width, depth, heads, mlp_ratio: of the transformer. template_size, search_size: sides
    of the crops in pixels, multiples of 16. stem_widths, stem_depths: of the two convolutional stages (convmae only).
    head: channels of the corner head.
    """

    kind: Literal["vit", "convmae", "v2"]
    width: int
    depth: int
    heads: int
    template_size: int
    search_size: int
    mlp_ratio: int = 4
    stem_widths: tuple[int, int] = (0, 0)
    stem_depths: tuple[int, int] = (0, 0)
    head: int = 384

    @property
    def template_grid(self) -> int:
        """Tokens along a template's side."""
        return self.template_size // 16

    @property
    def search_grid(self) -> int:
        """Tokens along a search region's side."""
        return self.search_size // 16


CONFIGS = {
    "mixformer_vit_online/baseline": MixFormerConfig("vit", 768, 12, 12, 128, 288),
    "mixformer_vit_online/baseline_large": MixFormerConfig("vit", 1024, 24, 16, 192, 384),
    "mixformer_convmae_online/baseline": MixFormerConfig(
        "convmae", 768, 11, 12, 128, 288, stem_widths=(256, 384), stem_depths=(2, 2)
    ),
    "mixformer_convmae_online/baseline_large": MixFormerConfig(
        "convmae", 1024, 20, 16, 192, 384, stem_widths=(384, 768), stem_depths=(2, 2)
    ),
    "mixformer2_vit_online/288_depth8_score": MixFormerConfig("v2", 768, 8, 12, 128, 288),
    "mixformer2_vit_online/224_depth4_mlp1_score": MixFormerConfig("v2", 768, 4, 12, 112, 224, mlp_ratio=1),
}
"""By the names of the authors' configuration files."""
