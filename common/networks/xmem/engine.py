"""XMem over a clip, picture by picture: what is kept from one to the next, and when (section 3 of the paper).

Nothing depends on where in time a picture lies but their order, so that backward is the same with pictures in reverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from common.networks.xmem.memory import MemoryBank, MemorySettings
from common.networks.xmem.network import STRIDE, Features, XMem, aggregate
from common.networks.xmem.pictures import Frame


@dataclass(frozen=True)
class EngineSettings:
    """memory_every: pictures between two that are memorised. deep_every: pictures between renewals of the sensory memory
    from the values, -1 = with every memorised picture, as published.
    """

    memory_every: int = 5
    deep_every: int = -1
    memory: MemorySettings = field(default_factory=MemorySettings)


class Engine:
    """One clip in progress; owned by one caller. frame: how its pictures are prepared."""

    def __init__(self, network: XMem, settings: EngineSettings, frame: Frame) -> None:
        self._network = network
        self._settings = settings
        self._frame = frame
        height, width = frame.padded
        self._grid = (height // STRIDE, width // STRIDE)
        self._objects: list[int] = []
        self._banks: list[MemoryBank] = []
        self._hidden = self._no_hidden(0)
        self._time = -1
        self._last_memory = 0
        self._last_deep = -settings.deep_every

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids in the order of the channels, which is that in which they were added."""
        return tuple(self._objects)

    @property
    def tokens(self) -> tuple[int, int]:
        """In working and in long-term memory of the first group of objects."""
        if not self._banks:
            return 0, 0
        return self._banks[0].working_tokens, self._banks[0].long_tokens

    @property
    def hidden(self) -> Tensor:
        """The sensory memory: (objects, hidden, H, W) float32."""
        return self._hidden

    @torch.inference_mode()
    def step(
        self, image: Tensor, masks: Tensor | None = None, ids: Sequence[int] = (), *, last: bool = False
    ) -> Tensor:
        """The next picture: probabilities (1 + objects, h, w) float32 of the working size, background first.

        image: uint8 (H, W, 3). masks: (len(ids), H, W), > 0 = object, of those ids that a person labelled on this picture;
        new ids are followed from here on, known ones corrected, and the others found. last: nothing is memorised.
        """
        self._time += 1
        network, s = self._network, self._settings
        picture = self._frame.picture(image, network.device).to(network.dtype)
        features = network.encode_picture(picture)
        labelled = masks is not None
        write = (labelled or self._time - self._last_memory >= s.memory_every) and not last
        synchronous = s.deep_every < 0
        deep = (write if synchronous else self._time - self._last_deep >= s.deep_every) and not last
        found = None
        if self._objects and not set(self._objects) <= set(ids):
            found, hidden = self._find(features, update=not last and not (synchronous and deep))
            self._hidden = hidden
        if masks is not None:
            probabilities = aggregate(self._join(found, self._frame.masks(masks, network.device), ids))
            self._add(ids)
        else:
            assert found is not None, "the first picture is a labelled one"
            probabilities = found
        if write:
            self._memorise(picture, features, probabilities[1:], deep)
            self._last_memory = self._time
            if deep:
                self._last_deep = self._time
        return self._frame.unpad(probabilities)

    @torch.inference_mode()
    def keep_for_ever(self, image: Tensor, masks: Tensor, ids: Sequence[int]) -> None:
        """Memorises another labelled picture of objects that are followed already, for good; time does not pass.

        Objects that are not among the ids are found in it as in any picture. Only before the second `step`, and only as
        often as the settings have extra frames; ValueError if not.
        """
        network = self._network
        picture = self._frame.picture(image, network.device).to(network.dtype)
        features = network.encode_picture(picture)
        found = None
        if not set(self._objects) <= set(ids):
            found, _ = self._find(features, update=False)
        joined = aggregate(self._join(found, self._frame.masks(masks, network.device), ids))
        value, _ = network.encode_masks(picture, features, joined[1:], self._hidden, deep=False)
        self._write(features, value, permanent=True)

    def remove(self, ids: Sequence[int]) -> None:
        """Follows these objects no longer and forgets them."""
        begin, banks = 0, []
        for bank in self._banks:
            members = self._objects[begin : begin + bank.objects]
            begin += bank.objects
            kept = [position for position, member in enumerate(members) if member not in ids]
            if kept:
                bank.keep(kept)
                banks.append(bank)
        self._banks = banks
        rows = [position for position, member in enumerate(self._objects) if member not in ids]
        self._hidden = self._hidden[rows]
        self._objects = [self._objects[row] for row in rows]

    def save(self) -> dict[str, Any]:
        """A bounded tree of numbers and arrays, for `load`."""
        return {
            "objects": list(self._objects),
            "groups": [bank.objects for bank in self._banks],
            "banks": [bank.save() for bank in self._banks],
            "hidden": self._hidden.cpu().numpy(),
            "time": [self._time, self._last_memory, self._last_deep],
        }

    @torch.inference_mode()
    def load(self, tree: Mapping[str, Any]) -> None:
        """What `save` gave, into an engine of the same making. Raises ValueError where it does not fit."""
        self._objects = [int(member) for member in tree["objects"]]
        self._banks = [self._bank(int(objects)) for objects in tree["groups"]]
        for bank, saved in zip(self._banks, tree["banks"], strict=True):
            bank.load(saved)
        hidden = torch.from_numpy(tree["hidden"].copy()).to(self._network.device)
        if hidden.shape != self._no_hidden(len(self._objects)).shape:
            raise ValueError("the snapshot was made for pictures of another size")
        self._hidden = hidden
        self._time, self._last_memory, self._last_deep = (int(t) for t in tree["time"])

    def _find(self, features: Features, update: bool) -> tuple[Tensor, Tensor]:
        readout = torch.cat([bank.read(features.key, features.selection) for bank in self._banks])
        return self._network.segment(features, readout, self._hidden, update)

    def _join(self, found: Tensor | None, masks: Tensor, ids: Sequence[int]) -> Tensor:
        """Each object's own probability: labelled ones as drawn, the others as found where nothing is drawn.

        found: (1 + known objects, h, w) or None when all are labelled; masks: (len(ids), h, w) of 0 and 1.
        """
        new = [i for i in ids if i not in self._objects]
        joined = masks.new_zeros(len(self._objects) + len(new), *masks.shape[1:])
        if found is not None:
            joined[: len(self._objects)] = found[1:] * (masks.sum(0) <= 0.5)
        order = [*self._objects, *new]
        joined[[order.index(i) for i in ids]] = masks
        return joined

    def _add(self, ids: Sequence[int]) -> None:
        """A group of the ids that are new, with an empty memory."""
        new = [i for i in ids if i not in self._objects]
        if new:
            self._banks.append(self._bank(len(new)))
            self._objects += new
            self._hidden = torch.cat([self._hidden, self._no_hidden(len(new))])

    def _memorise(self, picture: Tensor, features: Features, masks: Tensor, deep: bool) -> None:
        value, self._hidden = self._network.encode_masks(picture, features, masks, self._hidden, deep)
        self._write(features, value)

    def _write(self, features: Features, value: Tensor, permanent: bool = False) -> None:
        begin = 0
        for bank in self._banks:
            own = value[begin : begin + bank.objects]
            bank.write(features.key, features.shrinkage, features.selection, own, permanent)
            begin += bank.objects

    def _bank(self, objects: int) -> MemoryBank:
        sizes, network = self._network.sizes, self._network
        tokens = self._grid[0] * self._grid[1]
        return MemoryBank(self._settings.memory, tokens, objects, sizes.key, sizes.value, network.dtype, network.device)

    def _no_hidden(self, objects: int) -> Tensor:
        return torch.zeros(objects, self._network.sizes.hidden, *self._grid, device=self._network.device)
