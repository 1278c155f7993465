"""XMem's network: pictures to keys, pictures and masks to values, what the memory gives to masks.

Parameters carry the names of the published checkpoints (a flat state dict). One clip at a time: tensors have no batch
axis but the objects'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.networks.xmem.blocks import FusionBlock, SensoryGate, SensoryUpdate, UpBlock, joined
from common.networks.xmem.resnet import Basic, Bottleneck, stage

STRIDE = 16
"""Pixels of the padded picture per memory token, in both directions."""


@dataclass(frozen=True)
class Sizes:
    """Channels of keys, values and sensory memory (`hidden`, 0 = the variant without it).

    width, key_blocks, value_blocks: of the two residual networks. Smaller ones than published are for tests.
    """

    key: int = 64
    value: int = 512
    hidden: int = 64
    width: int = 64
    key_blocks: tuple[int, int, int] = (3, 4, 6)
    value_blocks: tuple[int, int, int] = (2, 2, 2)

    @classmethod
    def of(cls, checkpoint: Mapping[str, Tensor]) -> Sizes:
        """Those of a published checkpoint, read from the shapes of its tensors."""
        gate = checkpoint.get("decoder.hidden_update.transform.weight")
        return cls(
            key=checkpoint["key_proj.key_proj.weight"].shape[0],
            value=checkpoint["value_encoder.fuser.block2.conv2.weight"].shape[0],
            hidden=0 if gate is None else gate.shape[0] // 3,
        )


class Features(NamedTuple):
    """What is computed once for a picture, H x W = its padded size / 16.

    key, selection: (key, H, W) float32; shrinkage: (H, W) float32, >= 1; f16, f8, f4: (1, C, ., .) at those strides.
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor


class KeyEncoder(nn.Module):
    """ResNet-50 without its last stage."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        w, (a, b, c) = sizes.width, sizes.key_blocks
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.res2 = stage(Bottleneck, 64, w, a, 1)
        self.layer2 = stage(Bottleneck, 4 * w, 2 * w, b, 2)
        self.layer3 = stage(Bottleneck, 8 * w, 4 * w, c, 2)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """picture: (1, 3, h, w). Features at stride 16, 8 and 4."""
        x = functional.max_pool2d(torch.relu_(self.bn1(self.conv1(picture))), 3, 2, 1)
        f4 = self.res2(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


class KeyProjection(nn.Module):
    """Features at stride 16 to key, shrinkage and selection."""

    def __init__(self, channels: int, key: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(channels, key, 3, padding=1)
        self.d_proj = nn.Conv2d(channels, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(channels, key, 3, padding=1)

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Similarities are differences of large numbers: single precision from here on.
        key, d, e = self.key_proj(f16)[0].float(), self.d_proj(f16)[0, 0].float(), self.e_proj(f16)[0].float()
        return key, d.square() + 1, torch.sigmoid(e)


class ValueEncoder(nn.Module):
    """ResNet-18 without its last stage over picture, own mask and the sum of the others, joined with the picture's features."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        w, (a, b, c) = sizes.width, sizes.value_blocks
        self.conv1, self.bn1 = nn.Conv2d(5, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1 = stage(Basic, 64, w, a, 1)
        self.layer2 = stage(Basic, w, 2 * w, b, 2)
        self.layer3 = stage(Basic, 2 * w, 4 * w, c, 2)
        self.fuser = FusionBlock(16 * w, 4 * w, sizes.value)
        self.hidden_reinforce = SensoryGate(sizes.value, sizes.hidden) if sizes.hidden else None

    def forward(self, picture: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """masks: (objects, h, w), 0..1. Values (objects, value, H, W)."""
        others = masks.sum(0, keepdim=True) - masks if len(masks) > 1 else torch.zeros_like(masks)
        g = functional.conv2d(torch.stack([masks, others], 1), self.conv1.weight[:, 3:], None, 2, 3)
        g += functional.conv2d(picture, self.conv1.weight[:, :3], None, 2, 3)
        g = torch.relu_(functional.max_pool2d(self.bn1(g), 3, 2, 1))
        value: Tensor = self.fuser(f16, self.layer3(self.layer2(self.layer1(g))))
        return value


class Decoder(nn.Module):
    """What was read from the memory, with the picture's features, to logits and the next sensory memory."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        w = sizes.width
        self.fuser = FusionBlock(16 * w, sizes.value + sizes.hidden, 8 * w)
        self.hidden_update = SensoryUpdate((8 * w, 4 * w, 4 * w + 1), 4 * w, sizes.hidden) if sizes.hidden else None
        self.up_16_8 = UpBlock(8 * w, 8 * w, 4 * w)
        self.up_8_4 = UpBlock(4 * w, 4 * w, 4 * w)
        self.pred = nn.Conv2d(4 * w, 1, 3, padding=1)

    def forward(self, features: Features, readout: Tensor, hidden: Tensor, update: bool) -> tuple[Tensor, Tensor]:
        """Logits (objects, h, w) float32 and the sensory memory, updated where asked for."""
        g = joined(readout, hidden) if self.hidden_update is not None else readout
        g16 = self.fuser(features.f16, g)
        g8 = self.up_16_8(features.f8, g16)
        g4 = self.up_8_4(features.f4, g8)
        logits = self.pred(torch.relu(g4))
        if update and self.hidden_update is not None:
            hidden = self.hidden_update.update(g16, g8, torch.cat([g4, logits], 1), hidden)
        logits = functional.interpolate(logits.float(), scale_factor=4, mode="bilinear", align_corners=False)
        return logits[:, 0], hidden


class XMem(nn.Module):
    """See the module's text. Holds no state: one network serves any number of clips and threads."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or Sizes()
        self.key_encoder = KeyEncoder(self.sizes)
        self.value_encoder = ValueEncoder(self.sizes)
        self.key_proj = KeyProjection(16 * self.sizes.width, self.sizes.key)
        self.decoder = Decoder(self.sizes)
        # Channels last: convolutions take a tenth to a fifth less time on a CPU.
        self.to(memory_format=torch.channels_last)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network; memory keys, sensory memory and probabilities are always float32."""
        return self.key_encoder.conv1.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.key_encoder.conv1.weight.device

    def encode_picture(self, picture: Tensor) -> Features:
        """picture: (1, 3, h, w), normalised, h and w multiples of 16."""
        f16, f8, f4 = self.key_encoder(picture.contiguous(memory_format=torch.channels_last))
        key, shrinkage, selection = self.key_proj(f16)
        return Features(key, shrinkage, selection, f16, f8, f4)

    def encode_masks(
        self, picture: Tensor, features: Features, masks: Tensor, hidden: Tensor, deep: bool
    ) -> tuple[Tensor, Tensor]:
        """Values of the masks (objects, h, w), and the sensory memory, renewed from them when `deep`."""
        value = self.value_encoder(picture, features.f16, masks.to(self.dtype))
        if deep and self.value_encoder.hidden_reinforce is not None:
            hidden = self.value_encoder.hidden_reinforce(value, hidden)
        return value, hidden

    def segment(self, features: Features, readout: Tensor, hidden: Tensor, update: bool) -> tuple[Tensor, Tensor]:
        """Probabilities (1 + objects, h, w) float32, background first, and the sensory memory.

        readout: (objects, value, H, W) from the memory. update: renew the sensory memory.
        """
        logits, hidden = self.decoder(features, readout, hidden, update)
        return aggregate(torch.sigmoid(logits)), hidden


def aggregate_logits(masks: Tensor) -> Tensor:
    """Logits of background and objects from each object's own probability (objects, h, w) float32.

    Soft aggregation (Oh et al., ICCV 2019, https://arxiv.org/abs/1904.00607): background is what is no object.
    """
    joined = torch.cat([(1 - masks).prod(0, keepdim=True), masks]).clamp_(1e-7, 1 - 1e-7)
    return torch.log(joined / (1 - joined))


def aggregate(masks: Tensor) -> Tensor:
    """Probabilities (1 + objects, h, w) that sum to 1, from each object's own (objects, h, w)."""
    return torch.softmax(aggregate_logits(masks), 0)


def convert(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published checkpoint as the network wants it: the stem of a single-object file gets a channel for other objects."""
    name = "value_encoder.conv1.weight"
    stem = checkpoint.get(name)
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 4:
        checkpoint = {**checkpoint, name: functional.pad(stem, (0, 0, 0, 0, 0, 1))}
    return checkpoint
