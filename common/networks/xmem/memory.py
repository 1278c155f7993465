"""XMem's memory of one group of objects: working memory frame by frame, long-term memory of prototypes, both bounded.

A bank serves the objects that were labelled first on the same frame, so that every token holds a value of each of them.
All room is taken when the bank is made: what fits for the first frame fits for the hundred-thousandth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class MemorySettings:
    """Defaults are the published ones.

    working_frames: working memory of that many frames is consolidated: `kept_frames` stay (the first and the latest),
    those between become `prototypes` long-term tokens. long_tokens: most of them; the least used make room. top_k: tokens
    that each place of the picture reads from. long_term: False keeps every frame for ever, which no product does: it is
    here to compare with published results. extra_frames: room for labelled frames besides the first, kept for ever.
    read_bytes: most of the matrix of similarities at a time; reads are cut into pieces, with the same result.
    """

    working_frames: int = 10
    kept_frames: int = 5
    prototypes: int = 128
    long_tokens: int = 10_000
    top_k: int = 30
    long_term: bool = True
    extra_frames: int = 0
    read_bytes: int = 64 * 2**20


def similarity(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """How alike memory tokens and queries are, (queries, tokens), <= 0: the paper's anisotropic L2, equation 4.

    key: (tokens, c), shrinkage: (tokens,), query, selection: (queries, c); all float32.
    """
    # -sum e (k - q)^2 = -(k^2 . e) + 2 (k . q e) - (q^2 . e): the first two as one product of matrices.
    asked = torch.cat([-selection, 2 * query * selection], 1)
    out = asked @ torch.cat([key.square(), key], 1).T
    out -= (selection * query.square()).sum(1, keepdim=True)
    return out.mul_(shrinkage / math.sqrt(key.shape[1]))


class MemoryBank:
    """Tokens of one group of objects. Long-term tokens lie in front, working memory behind them.

    tokens: per frame. objects: of the group. key, value: channels. dtype: of the values; all else is float32.
    """

    def __init__(
        self,
        settings: MemorySettings,
        tokens: int,
        objects: int,
        key: int,
        value: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.settings = settings
        self._frame = tokens
        self._channels = value
        candidates = (settings.working_frames - settings.kept_frames) * tokens
        self._prototypes = min(settings.prototypes, candidates)
        self._long_room = settings.long_tokens if settings.long_term else 0
        room = self._long_room + (settings.working_frames + settings.extra_frames) * tokens
        self._key = torch.zeros(room, key, device=device)
        self._selection = torch.zeros(room, key, device=device)
        self._shrinkage = torch.zeros(room, device=device)
        self._value = torch.zeros(room, objects * value, dtype=dtype, device=device)
        self._use = torch.zeros(room, device=device)
        self._life = torch.zeros(room, device=device)
        for array in self._arrays:
            array.fill_(0)  # zeros() only promises memory; this takes it
        self._long = 0
        self._frames = 0
        self._permanent = 0

    @property
    def _arrays(self) -> tuple[Tensor, ...]:
        return (self._key, self._selection, self._shrinkage, self._value, self._use, self._life)

    @property
    def objects(self) -> int:
        return self._value.shape[1] // self._channels

    @property
    def working_tokens(self) -> int:
        return self._frames * self._frame

    @property
    def long_tokens(self) -> int:
        return self._long

    def write(self, key: Tensor, shrinkage: Tensor, selection: Tensor, value: Tensor, permanent: bool = False) -> None:
        """Adds a frame: key, selection (c, H, W), shrinkage (H, W), value (objects, value, H, W).

        The first frame is permanent; further ones can be as long as there are only permanent ones.
        """
        s = self.settings
        if permanent and (self._frames > self._permanent or self._permanent > s.extra_frames):
            raise ValueError("permanent frames are written first, and no more than there is room for")
        begin = self._long_room + self._frames * self._frame
        place = slice(begin, begin + self._frame)
        if place.stop > len(self._key):
            self._grow()
        self._key[place] = key.flatten(1).T
        self._selection[place] = selection.flatten(1).T
        self._shrinkage[place] = shrinkage.flatten()
        self._value[place] = value.flatten(2).permute(2, 0, 1).flatten(1)
        self._use[place] = 0
        self._life[place] = 1e-7
        self._frames += 1
        self._permanent += permanent or self._permanent == 0
        if s.long_term and self._frames - self._permanent + 1 >= s.working_frames:
            self._consolidate()

    def read(self, query: Tensor, selection: Tensor) -> Tensor:
        """What the memory says about a picture: (objects, value, H, W). query, selection: (c, H, W).

        Counts how much each token was used.
        """
        height, width = query.shape[1:]
        asked, chosen = query.flatten(1).T, selection.flatten(1).T
        work = slice(self._long_room, self._long_room + self.working_tokens)
        key = torch.cat([self._key[: self._long], self._key[work]])
        shrinkage = torch.cat([self._shrinkage[: self._long], self._shrinkage[work]])
        tokens = len(key)
        count = min(self.settings.top_k, tokens)
        piece = max(1, self.settings.read_bytes // (4 * tokens))
        out = self._value.new_empty(len(asked), self._value.shape[1])
        for begin in range(0, len(asked), piece):
            part = slice(begin, begin + piece)
            best, index = similarity(key, shrinkage, asked[part], chosen[part]).topk(count)
            # torch.softmax subtracts the largest first: equal to the published sum of exponentials, without underflow.
            weight = torch.softmax(best, 1)
            index += (index >= self._long) * (self._long_room - self._long)
            self._use.index_add_(0, index.flatten(), weight.flatten())
            out[part] = functional.embedding_bag(
                index, self._value, per_sample_weights=weight.to(out.dtype), mode="sum"
            )
        self._life[: self._long] += 1
        self._life[work] += 1
        maps = out.view(height, width, self.objects, self._channels).permute(2, 3, 0, 1)
        return maps.contiguous(memory_format=torch.channels_last)

    def keep(self, positions: list[int]) -> None:
        """Forgets all objects of the group but those at the positions."""
        value = self._value.view(len(self._value), self.objects, self._channels)
        self._value = value[:, positions].flatten(1).contiguous()

    def _consolidate(self) -> None:
        """Prototypes of the frames between the permanent and the latest go to long-term memory (section 3.3 of the paper)."""
        latest = self.settings.kept_frames - 1
        begin = self._long_room + self._permanent * self._frame
        end = self._long_room + (self._frames - latest) * self._frame
        candidates = slice(begin, end)
        wanted = (self._use[candidates] / self._life[candidates]).topk(self._prototypes).indices
        self._make_room()
        key, shrinkage = self._key[candidates], self._shrinkage[candidates]
        weight = torch.softmax(similarity(key, shrinkage, key[wanted], self._selection[candidates][wanted]), 1)
        place = slice(self._long, self._long + self._prototypes)
        self._key[place] = key[wanted]
        self._shrinkage[place] = weight @ shrinkage
        self._value[place] = weight.to(self._value.dtype) @ self._value[candidates]
        self._use[place] = 0
        self._life[place] = 1e-7
        self._long += self._prototypes
        for array in self._arrays:
            array[begin : begin + latest * self._frame] = array[end : end + latest * self._frame].clone()
        self._frames = self._permanent + latest

    def _make_room(self) -> None:
        """Drops the least used long-term tokens when the next prototypes would not fit; equally used ones go together."""
        excess = self._long - (self._long_room - self._prototypes)
        if excess < 0:
            return
        usage = self._use[: self._long] / self._life[: self._long]
        bar = usage.sort().values[excess - 1] if excess else -torch.inf
        survivors = (usage > bar).nonzero()[:, 0]
        for array in self._arrays:
            array[: len(survivors)] = array[survivors]
        self._long = len(survivors)

    def _grow(self) -> None:
        """Twice the room: only without long-term memory."""
        assert not self.settings.long_term
        self._key, self._selection, self._shrinkage, self._value, self._use, self._life = (
            torch.cat([array, torch.zeros_like(array)]) for array in self._arrays
        )

    def save(self) -> dict[str, Any]:
        """Numbers and arrays of what is in use."""
        work = slice(self._long_room, self._long_room + self.working_tokens)
        parts = [[array[: self._long], array[work]] for array in self._arrays]
        return {
            "frames": self._frames,
            "permanent": self._permanent,
            "arrays": [[p.cpu().numpy() for p in pair] for pair in parts],
        }

    def load(self, tree: Mapping[str, Any]) -> None:
        """What `save` gave, into a bank of the same making. Raises ValueError where it does not fit."""
        self._frames, self._permanent = int(tree["frames"]), int(tree["permanent"])
        self._long = len(tree["arrays"][0][0])
        work = slice(self._long_room, self._long_room + self.working_tokens)
        if self._long > self._long_room or work.stop > len(self._key):
            raise ValueError("the snapshot holds more memory than this tracker keeps")
        for array, (long, working) in zip(self._arrays, tree["arrays"], strict=True):
            for place, part in ((slice(0, self._long), long), (work, working)):
                if array[place].shape != np.shape(part):
                    raise ValueError("the snapshot was made by a tracker of another size")
                array[place] = torch.from_numpy(np.array(part))
