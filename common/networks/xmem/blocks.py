"""Building blocks of XMem's encoder of masks and of its decoder.

`x` are features of the picture, (1, C, H, W), the same for all objects; `g` are features of the objects, (objects, C, H,
W). Whatever is linear in `x` is computed once, not once for each object.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """relu, 3x3, relu, 3x3, plus the input, which a 3x3 convolution brings to `outputs` channels where it must."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = None if inputs == outputs else nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, g: Tensor) -> Tensor:
        out: Tensor = self.conv2(torch.relu_(self.conv1(torch.relu(g))))
        out += g if self.downsample is None else self.downsample(g)
        return out

    def joined(self, x: Tensor, g: Tensor) -> Tensor:
        """What `forward` gives for x's channels followed by g's, with x's share of the convolutions computed once.

        A convolution of joined channels is the sum of the convolutions of the parts, and relu acts on each channel alone.
        """
        assert self.downsample is not None, "joined features have more channels than come out"
        between = _part(self.conv1, torch.relu(g), x.shape[1], None)
        between += _part(self.conv1, torch.relu(x), 0, x.shape[1])
        out: Tensor = self.conv2(torch.relu_(between))
        out += _part(self.downsample, g, x.shape[1], None)
        out += _part(self.downsample, x, 0, x.shape[1])
        return out


def joined(g: Tensor, h: Tensor) -> Tensor:
    """Channels of both, in g's precision and laid out for convolutions: the same bits whatever layout h came in."""
    return torch.cat([g, h.to(g.dtype)], 1).contiguous(memory_format=torch.channels_last)


def _part(conv: nn.Conv2d, features: Tensor, begin: int, end: int | None) -> Tensor:
    """The convolution of input channels begin..end alone; the first part brings the bias."""
    return functional.conv2d(features, conv.weight[:, begin:end], conv.bias if begin == 0 else None, padding=1)


class _ChannelGate(nn.Module):
    """Weighs channels by what they are on average and at most."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(1, channels // 16)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, between), nn.ReLU(), nn.Linear(between, channels))

    def forward(self, g: Tensor) -> Tensor:
        weight = torch.sigmoid(self.mlp(g.mean((2, 3))) + self.mlp(g.amax((2, 3))))
        return g * weight[:, :, None, None]


class _SpatialGate(nn.Module):
    """Weighs places by the largest and the mean channel around them."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.ModuleDict({"conv": nn.Conv2d(2, 1, 7, padding=3)})

    def forward(self, g: Tensor) -> Tensor:
        summary = torch.cat([g.amax(1, keepdim=True), g.mean(1, keepdim=True)], 1)
        return g * torch.sigmoid(self.spatial["conv"](summary))


class Cbam(nn.Module):
    """Convolutional block attention (Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = _ChannelGate(channels)
        self.SpatialGate = _SpatialGate()

    def forward(self, g: Tensor) -> Tensor:
        weighed: Tensor = self.SpatialGate(self.ChannelGate(g))
        return weighed


class FusionBlock(nn.Module):
    """Picture and object features in, object features out. x_channels, g_channels: in; channels: out."""

    def __init__(self, x_channels: int, g_channels: int, channels: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(x_channels + g_channels, channels)
        self.attention = Cbam(channels)
        self.block2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        g = self.block1.joined(x, g)
        out: Tensor = self.block2(g + self.attention(g))
        return out


class UpBlock(nn.Module):
    """Object features to twice the size, with the picture's features of that size added."""

    def __init__(self, skip: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = ResidualBlock(inputs, outputs)

    def forward(self, skip: Tensor, g: Tensor) -> Tensor:
        g = functional.interpolate(g, scale_factor=2, mode="bilinear", align_corners=False)
        g += self.skip_conv(skip)
        out: Tensor = self.out_conv(g)
        return out


class SensoryGate(nn.Module):
    """Updates the sensory memory h, (objects, hidden, H, W) float32, from features of `channels` channels.

    h' = forget * h * (1 - update) + update * new: not the textbook's gated unit, but what the weights were trained with.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels + hidden, 3 * hidden, 3, padding=1)

    def forward(self, g: Tensor, h: Tensor) -> Tensor:
        forget, update, new = self.transform(joined(g, h)).float().chunk(3, 1)
        update = torch.sigmoid(update)
        return torch.sigmoid(forget) * h * (1 - update) + update * torch.tanh(new)


class SensoryUpdate(SensoryGate):
    """The decoder's update: from its features at all three strides. channels: of the features at stride 16, 8 and 4."""

    def __init__(self, channels: tuple[int, int, int], between: int, hidden: int) -> None:
        super().__init__(between, hidden)
        self.g16_conv, self.g8_conv, self.g4_conv = (nn.Conv2d(c, between, 1) for c in channels)

    def update(self, g16: Tensor, g8: Tensor, g4: Tensor, h: Tensor) -> Tensor:
        g = self.g16_conv(g16)
        g += self.g8_conv(functional.avg_pool2d(g8, 2))
        g += self.g4_conv(functional.avg_pool2d(g4, 4))
        return self.forward(g, h)
