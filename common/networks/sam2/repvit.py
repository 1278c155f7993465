"""RepViT (Wang et al., CVPR 2024, https://arxiv.org/abs/2307.09283): the image encoder of EdgeTAM, convolutions only.

Parameters carry the names that the first release of the weights has in `timm`, as published with EdgeTAM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNorm(nn.Module):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.c(x))
        return out


class TokenMixer(nn.Module):
    """What lies around each place, channel by channel: 3x3, 1x1 and the input, summed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        out += self.conv1(x)
        out += x
        return out


class ChannelMixer(nn.Module):
    """Two 1x1 convolutions with twice the channels between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(width, 2 * width), ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(functional.gelu(self.conv1(x)))
        return out


class SqueezeExcite(nn.Module):
    """Weighs channels by what they are on average."""

    def __init__(self, width: int) -> None:
        super().__init__()
        between = max(8, (width // 4 + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(width, between, 1), nn.Conv2d(between, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.fc2(torch.relu_(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weight)


class Block(nn.Module):
    """Mixes places, then channels. excite: with channels weighed between."""

    def __init__(self, width: int, excite: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if excite else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.token_mixer(x))
        out: Tensor = self.channel_mixer(x)
        return out.add_(x)


class Downsample(nn.Module):
    """Half the size, other channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = Block(inputs, excite=False)
        self.spatial_downsample = ConvNorm(inputs, inputs, 3, 2, groups=inputs)
        self.channel_downsample = ConvNorm(inputs, outputs)
        self.ffn = ChannelMixer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        out: Tensor = self.ffn(x)
        return out.add_(x)


class Stage(nn.Module):
    """Blocks of one size; every other one, from the first on, weighs its channels. inputs: None = no other size comes in."""

    def __init__(self, inputs: int | None, width: int, count: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if inputs is None else Downsample(inputs, width)
        self.blocks = nn.Sequential(*(Block(width, number % 2 == 0) for number in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(x))
        return out


class Stem(nn.Module):
    """A quarter of the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(3, width // 2, 3, 2), ConvNorm(width // 2, width, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(functional.gelu(self.conv1(x)))
        return out


class RepVit(nn.Module):
    """widths, blocks: of the four stages, at strides 4, 8, 16 and 32."""

    def __init__(self, widths: Sequence[int] = (48, 96, 192, 384), blocks: Sequence[int] = (2, 2, 14, 2)) -> None:
        super().__init__()
        self.stem = Stem(widths[0])
        self.stages_0, self.stages_1, self.stages_2, self.stages_3 = (
            Stage(inputs, width, count)
            for inputs, width, count in zip((None, *widths[:3]), widths, blocks, strict=True)
        )

    def forward(self, picture: Tensor) -> list[Tensor]:
        """picture: (n, 3, h, w). Features of all stages, finest first."""
        x = self.stem(picture)
        found = []
        for stage in (self.stages_0, self.stages_1, self.stages_2, self.stages_3):
            x = stage(x)
            found.append(x)
        return found
