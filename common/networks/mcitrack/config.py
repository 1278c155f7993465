"""The published sizes of MCITrack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MCITrackConfig:
    """width, depths, heads: of the encoder; depths counts the blocks of its two convolutional stages and of the attention
    stage, which divides evenly into four rounds. template_size, search_size: sides of the crops in pixels, multiples of
    16. state: numbers that each channel carries from frame to frame. head: channels of the box head.
    """

    width: int
    depths: tuple[int, int, int]
    heads: int
    template_size: int = 112
    search_size: int = 224
    state: int = 16
    head: int = 256
    neck_heads: int = 8

    @property
    def template_grid(self) -> int:
        """Tokens along a template's side."""
        return self.template_size // 16

    @property
    def search_grid(self) -> int:
        """Tokens along a search region's side."""
        return self.search_size // 16

    @property
    def stem(self) -> int:
        """Modules of the encoder before its attention blocks: both stages, each with the merge that ends it."""
        return self.depths[0] + self.depths[1] + 2

    @property
    def rounds(self) -> tuple[range, ...]:
        """Blocks of the encoder, by number, that belong to each of the four rounds."""
        step = self.depths[2] // 4
        return tuple(range(self.stem + i * step, self.stem + (i + 1) * step) for i in range(4))


CONFIGS = {
    "mcitrack_t224": MCITrackConfig(384, (1, 1, 12), 6),
    "mcitrack_s224": MCITrackConfig(384, (2, 2, 20), 6),
    "mcitrack_b224": MCITrackConfig(512, (3, 3, 24), 8),
    "mcitrack_l224": MCITrackConfig(768, (2, 2, 40), 12),
    "mcitrack_l384": MCITrackConfig(768, (2, 2, 40), 12, 192, 384),
}
"""By the names of the authors' configuration files."""
