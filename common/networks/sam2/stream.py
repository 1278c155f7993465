"""Tracking frame by frame: the result of the official predictor on the whole video, in memory that does not grow.

The image encoder runs once per picture; objects of which equally much is remembered go through the rest as one batch.
A memory of a mask prompt is made from its stored low-resolution logits, as officially (`transformers` takes the full mask).
Time codes of pointers are those of clips with 16 frames and more, whatever the length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from common.networks.sam2.attention import attend, rotations
from common.networks.sam2.decoding import Features, Found, as_map, decode, drawn, encode, fresh, join, mask_logits
from common.networks.sam2.inputs import IMAGENET, Clicks, Normal, click_input, mask_input, pixels
from common.networks.sam2.memory import Bank, Entry

Drawing = NDArray[np.bool_] | Clicks
"""A prompt: a mask, bool (H, W), or clicks (and boxes)."""


@dataclass(frozen=True)
class Stream:
    """Steps any number of runs; holds nothing of them. model: of `build`, with weights. together: most objects in a batch."""

    model: Any
    together: int = 8

    as_drawn: ClassVar[bool] = False
    """Whether a mask that a person drew is remembered as it is, not as the decoder's resolution keeps it."""
    normal: ClassVar[Normal] = IMAGENET
    """What pictures are normalised by."""

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.no_memory_embedding.device
        return device

    @property
    def memories(self) -> int:
        return int(self.model.num_maskmem) - 1

    @property
    def pointers(self) -> int:
        return int(self.model.config.max_object_pointers_in_encoder) - 1

    @property
    def labelled(self) -> int | None:
        """Most labelled frames that attention reads; None = all."""
        most = int(self.model.config.max_cond_frame_num)
        return most if most >= 0 else None

    @cached_property
    def positions(self) -> Tensor:
        """Where the tokens of every memory lie, (N, c)."""
        side = tuple(self.model.backbone_feature_sizes[-1])
        code: Tensor = self.model.memory_encoder.position_encoding(
            torch.Size((1, self.model.mem_dim, *side)), self.device, torch.float32
        )
        return code.flatten(2)[0].T

    @cached_property
    def turns(self) -> Tensor:
        """Of the picture's tokens; `rotations`."""
        return rotations(self.model.memory_attention, self.model.memory_attention.position_ids)

    @cached_property
    def memory_turns(self) -> Tensor:
        """Of the tokens of every memory, (N, d / 2)."""
        return self.turns

    def see(self, image: NDArray[np.uint8]) -> Features:
        """image: RGB uint8 (H, W, 3)."""
        return encode(self.model, pixels(image, self.model.image_size, self.normal).to(self.device))

    def step(
        self,
        features: Features,
        banks: Sequence[Bank],
        frame: int,
        drawings: Mapping[int, Drawing],
        shape: tuple[int, int],
    ) -> Found:
        """One frame of all objects, in the banks' order; the banks then remember it. frame: greater than the last one's.

        drawings: by place in `banks`: what was drawn on this frame. A bank without memory must have one here. An object
        that was tracked before keeps what it remembers: the drawing corrects it. shape: (H, W) of the picture.
        """
        parts: dict[int, Found] = {}
        certain: dict[int, Tensor] = {}
        for place, drawing in drawings.items():
            parts[place], certain[place] = self.prompted(features, drawing, shape)
        for batch in self._batches(banks, frame, [p for p in range(len(banks)) if p not in drawings]):
            found = self._tracked(features, [banks[place] for place in batch], frame)
            parts |= {place: found[at : at + 1] for at, place in enumerate(batch)}
        for places in _chunks(sorted(parts), self.together):
            entries = self.remember(features, join([parts[p] for p in places]), [certain.get(p) for p in places])
            for place, entry in zip(places, entries, strict=True):
                (banks[place].labelled if place in drawings else banks[place].recent)[frame] = entry
        for bank in banks:
            bank.prune(frame, self.memories, self.pointers)
        return join([parts[place] for place in range(len(banks))])

    def learn(self, features: Features, drawing: Drawing, shape: tuple[int, int]) -> Entry:
        """The memory of an object that is labelled in a picture from anywhere."""
        found, certain = self.prompted(features, drawing, shape)
        return self.remember(features, found, [certain])[0]

    def prompted(self, features: Features, drawing: Drawing, shape: tuple[int, int]) -> tuple[Found, Tensor]:
        """What a prompt means, without any memory; and its mask as it is remembered: logits (1, 1, h, w) of any size."""
        size = self.model.image_size
        if not isinstance(drawing, Clicks):
            mask = mask_input(drawing, size).to(self.device)
            found = drawn(self.model, mask, features)
            return found, mask_logits(mask) if self.as_drawn else found.logits
        xy, labels = click_input(drawing, shape, size)
        config = self.model.config
        several = config.multimask_output_in_sam and (
            config.multimask_min_pt_num <= len(drawing.labels) <= config.multimask_max_pt_num
        )
        points = (xy.to(self.device), labels.to(self.device))
        found = decode(self.model, fresh(self.model, features), features, points, several=several)
        return found, found.logits

    def remember(self, features: Features, found: Found, certain: Sequence[Tensor | None]) -> list[Entry]:
        """Memories of n objects. certain: of those that a person drew the mask, which is remembered black and white."""
        model, config = self.model, self.model.config
        masks = self._enlarged(found.logits).sigmoid()
        for mask, logits in zip(masks, certain, strict=True):
            if logits is not None:
                mask.copy_(self._enlarged(logits)[0] > 0)
        masks = masks * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        count = len(masks)
        top = as_map(model, features.top).expand(count, -1, -1, -1)
        maps, positions = model.memory_encoder(top, masks.to(top.dtype))
        hidden = model.occlusion_spatial_embedding_parameter
        if hidden is not None:
            maps = maps + (found.score <= 0)[..., None, None] * hidden[..., None, None]
        return self._entries(maps, positions, found)

    def _enlarged(self, logits: Tensor) -> Tensor:
        """Logits in the resolution at which masks are remembered; by way of the picture's, as officially."""
        memory = 4 * self.model.prompt_encoder.mask_input_size[0]
        out = logits.float()
        for size, smooth in ((self.model.image_size, False), (memory, True)):
            if out.shape[-1] != size:
                out = functional.interpolate(out, (size, size), mode="bilinear", align_corners=False, antialias=smooth)
        return out

    def _entries(self, maps: Tensor, positions: Tensor, found: Found) -> list[Entry]:
        """positions: (1 or n, c, h, w), of the memory's maps (n, c, h, w)."""
        tokens = maps.to(torch.bfloat16).flatten(2).transpose(1, 2)
        return [Entry(t.clone(), p.clone()) for t, p in zip(tokens, found.pointer.float(), strict=True)]

    def _batches(self, banks: Sequence[Bank], frame: int, places: Sequence[int]) -> list[list[int]]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for place in places:
            groups.setdefault(banks[place].layout(frame), []).append(place)
        return [chunk for group in groups.values() for chunk in _chunks(group, self.together)]

    def _tracked(self, features: Features, banks: Sequence[Bank], frame: int) -> Found:
        config = self.model.config
        conditioned = self._attend(features, banks, frame)
        several = config.multimask_output_in_sam and config.multimask_output_for_tracking
        return decode(self.model, conditioned, features, several=several and config.multimask_min_pt_num <= 0)

    def _attend(self, features: Features, banks: Sequence[Bank], frame: int) -> Tensor:
        """The top features in the light of what is remembered: (n, C, h, w). The banks have equal layouts."""
        model, count = self.model, len(banks)
        memories = [bank.memories(frame, self.memories, self.labelled) for bank in banks]
        pointers = [bank.pointers(frame, self.pointers) for bank in banks]
        tokens = [
            torch.stack([cast(Tensor, own[at][1].tokens) for own in memories], 1) for at in range(len(memories[0]))
        ]
        times = model.memory_temporal_positional_encoding
        places = [self.positions + times[ago - 1, 0] for ago, _ in memories[0]]
        told = 0
        if pointers[0]:
            stacked = torch.stack([torch.stack([pointer for _, pointer in own]) for own in pointers], 1)
            codes = self._times([ago for ago, _ in pointers[0]], features.top.dtype)
            pieces = model.hidden_dim // model.mem_dim
            tokens.append(stacked.reshape(len(stacked), count, pieces, model.mem_dim).transpose(1, 2).flatten(0, 1))
            places.append(codes.repeat_interleave(pieces, 0))
            told = len(tokens[-1])
        attended = attend(
            model.memory_attention,
            features.top,
            features.positions,
            torch.cat(tokens).to(features.top.dtype),
            torch.cat(places)[:, None],
            told,
            self.turns,
            self.memory_turns,
        )
        return as_map(model, attended.transpose(0, 1))

    def _times(self, ago: Sequence[int], dtype: torch.dtype) -> Tensor:
        """What is added to pointers for their age in frames: (n, c)."""
        model = self.model
        if not model.config.enable_temporal_pos_encoding_for_object_pointers:
            return torch.zeros(len(ago), model.mem_dim, dtype=dtype, device=self.device)
        share = torch.from_numpy(np.array(ago, np.float32)).to(self.device) / self.pointers
        codes: Tensor = model.temporal_positional_encoding_projection_layer(
            time_code(share, model.hidden_dim).to(dtype)
        )
        return codes


def time_code(ago: Tensor, channels: int) -> Tensor:
    """Sines and cosines of times (n,) -> (n, channels), as in "Attention is all you need"."""
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=ago.device)
    angles = ago[:, None] / 10_000.0 ** (2 * (steps // 2) / half)
    return torch.cat([angles.sin(), angles.cos()], 1)


def _chunks(places: Sequence[int], most: int) -> list[list[int]]:
    return [list(places[at : at + most]) for at in range(0, len(places), most)]
