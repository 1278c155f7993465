"""TAPIR's image encoder: a pre-activation ResNet with instance norms, and BootsTAPIR's extra convolutions on top.

Doersch et al., "TAPIR", ICCV 2023, https://arxiv.org/abs/2306.08637; "BootsTAP", https://arxiv.org/abs/2402.00847.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (1, 2, 2, 1)
"""Of the four groups of two blocks. The second gives the fine map, the last one the coarse map."""

Channels = tuple[int, int, int, int]


class Block(nn.Module):
    """Two 3x3 convolutions, each after a norm and a ReLU, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.proj_conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if project else None
        self.bn_0 = nn.InstanceNorm2d(inputs, affine=True)
        self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.bn_1 = nn.InstanceNorm2d(outputs, affine=True)
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        # What "same" padding means in JAX, where the weights come from: all of it behind when the stride is 2.
        self._padding = (1, 1, 1, 1) if stride == 1 else (0, 2, 0, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn_0(x))
        shortcut = x if self.proj_conv is None else self.proj_conv(y)
        y = self.conv_0(F.pad(y, self._padding))
        y = self.conv_1(F.relu(self.bn_1(y)))
        result: Tensor = y + shortcut
        return result


class Group(nn.Module):
    """Blocks of one resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(inputs, outputs, stride, True), Block(outputs, outputs, 1, False)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ResNet(nn.Module):
    """frames (t, 3, h, w) in -1..1 -> fine map (t, channels[1], h/4, w/4) and coarse map (t, channels[3], h/8, w/8)."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.initial_conv = nn.Conv2d(3, channels[0], 7, 2, bias=False)
        inputs = (channels[0], *channels[:-1])
        self.block_groups = nn.ModuleList(
            [Group(before, after, stride) for before, after, stride in zip(inputs, channels, STRIDES, strict=True)]
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = self.initial_conv(F.pad(frames, (2, 4, 2, 4)))
        first, second, third, fourth = self.block_groups
        fine = second(first(x))
        return fine, fourth(third(fine))


class ExtraConv(nn.Module):
    """A norm over channels, then a residual pair of 3x3 convolutions. The residual starts at the normalised map."""

    def __init__(self, channels: int, widening: int = 4) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(channels)
        self.conv = nn.Conv2d(channels, channels * widening, 3, padding=1)
        self.conv_1 = nn.Conv2d(channels * widening, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x.movedim(1, -1)).movedim(-1, 1)
        update: Tensor = self.conv_1(F.gelu(self.conv(x), approximate="tanh"))
        return x + update


class ExtraConvs(nn.Module):
    """BootsTAPIR's additional layers on the coarse map (t, channels, h, w)."""

    def __init__(self, channels: int, layers: int = 5) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ExtraConv(channels) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x
