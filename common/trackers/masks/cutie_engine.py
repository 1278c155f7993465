"""Cutie over a clip, picture by picture: the package's inference core with its defects mended and its state in reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.networks.xmem.pictures import Frame
from common.trackers.masks.cutie_network import configuration


@dataclass(frozen=True)
class CutieSettings:
    """Defaults are the published ones for long videos.

    memory_every: pictures between two that are memorised. short_term: memorised pictures without long-term memory, the
    first included. long_term: whether there is one; then `working` pictures are kept, of which all but `kept` become
    `prototypes` long-term tokens, at most `long_tokens`; when these are full, `buffer` more than needed are dropped.
    """

    memory_every: int = 5
    short_term: int = 5
    long_term: bool = True
    working: int = 10
    kept: int = 5
    prototypes: int = 128
    long_tokens: int = 10_000
    buffer: int = 2000
    top_k: int = 30


class CutieEngine:
    """One clip in progress; owned by one caller. lock: held while the network is at work, as its tables of positions are
    kept in the network itself. half: half precision on a GPU.
    """

    def __init__(
        self, network: nn.Module, settings: CutieSettings, frame: Frame, lock: Lock | None = None, half: bool = False
    ) -> None:
        self._network, self._frame = network, frame
        self._lock = lock or Lock()
        self._half = half
        height, width = frame.padded
        tokens = height * width // 256
        # The package asks for so many whether they are there or not.
        candidates = max(1, (settings.working - settings.kept) * tokens)
        config = configuration()
        config.model = cast(Any, network).cfg.model
        config.merge_with(
            {
                "mem_every": settings.memory_every,
                "stagger_updates": 5,
                "chunk_size": -1,
                "save_aux": False,
                "flip_aug": False,
                "max_internal_size": -1,
                "top_k": min(settings.top_k, tokens),
                "use_long_term": settings.long_term,
                "max_mem_frames": settings.short_term,
                "long_term": {
                    "count_usage": True,
                    "max_mem_frames": settings.working,
                    "min_mem_frames": settings.kept,
                    "num_prototypes": min(settings.prototypes, candidates),
                    "max_num_tokens": settings.long_tokens,
                    "buffer_tokens": settings.buffer,
                },
            }
        )
        from cutie.inference.inference_core import InferenceCore

        self._core: Any = InferenceCore(network, config)

    @property
    def core(self) -> Any:
        """The package's inference core, for comparison with it."""
        return self._core

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids in the order of the channels."""
        return tuple(self._core.object_manager.all_obj_ids)

    @property
    def tokens(self) -> tuple[int, int]:
        """In working and in long-term memory, summed over the groups of objects that began on the same picture."""
        memory = self._core.memory
        work = sum(k.shape[-1] for k in memory.work_mem.k.values())
        long = sum(k.shape[-1] for k in memory.long_mem.k.values()) if memory.use_long_term else 0
        return work, long

    @torch.inference_mode()
    def step(
        self, image: Tensor, masks: Tensor | None = None, ids: Sequence[int] = (), *, last: bool = False
    ) -> Tensor:
        """The next picture: probabilities (1 + objects, h, w) float32 of the working size, background first.

        image: uint8 (H, W, 3). masks: (len(ids), H, W), > 0 = object; new ids (from 1 on) are followed from here on, known
        ones corrected. last: nothing is memorised.
        """
        with self._lock, self._precision():
            picture = self._picture(image)
            maps: Tensor = (
                self._core.step(picture, end=last) if masks is None else self._label(picture, masks, ids, end=last)
            )
            return maps.float()

    @torch.inference_mode()
    def keep_for_ever(self, image: Tensor, masks: Tensor, ids: Sequence[int]) -> None:
        """Memorises another labelled picture of objects that are followed already, for good; time does not pass.

        Objects that are not among the ids are found in it as in any picture.
        """
        core = self._core
        with self._lock, self._precision():
            kept = core.last_mask, dict(core.memory.sensory), core.curr_ti, core.last_mem_ti
            self._label(self._picture(image), masks, ids, force_permanent=True)
            core.last_mask, core.memory.sensory, core.curr_ti, core.last_mem_ti = kept

    @torch.inference_mode()
    def remove(self, ids: Sequence[int]) -> None:
        """Follows these objects no longer and forgets them.

        The package leaves their masks in the last picture's (the others then read another object's), and their summaries
        (an id that is used again begins with them); and it stumbles over groups without temporary memory.
        """
        core = self._core
        rows = [row for row, member in enumerate(self.objects) if member not in ids]
        stores = [core.memory.work_mem, *([core.memory.long_mem] if core.memory.use_long_term else [])]
        for store in stores:
            for number in [n for n, members in store.buckets.items() if set(members) <= set(ids)]:
                for name in ("e", "use_cnt", "life_cnt"):
                    getattr(store, name, {}).setdefault(number, None)
        core.delete_objects(list(ids))
        for i in ids:
            core.memory.obj_v.pop(i, None)
        core.last_mask = core.last_mask[:, rows]

    def _label(self, picture: Tensor, masks: Tensor, ids: Sequence[int], **options: bool) -> Tensor:
        """A step with masks. The package takes labels of objects that are all new or all that it knows, in its order."""
        if min(ids, default=1) < 1:
            raise ValueError("ids begin at 1: the package's label maps take 0 for background")
        drawn = self._masks(masks)
        known, new = self.objects, [i for i in ids if i not in self.objects]
        if not known:
            return self._step(picture, drawn, list(ids), idx_mask=False, **options)
        labels = torch.zeros(drawn.shape[1:], dtype=torch.long, device=drawn.device)
        given = dict(zip(ids, drawn, strict=True))
        order = new
        if len(new) < len(ids):
            # Some are corrected: those that are neither are taken as the network sees them.
            order = [*known, *new]
            if not set(known) <= given.keys():
                labels = self._seen(picture)
                for i in given:
                    labels[labels == 1 + order.index(i)] = 0
        for i, mask in given.items():
            labels[mask > 0] = 1 + order.index(i)
        lookup = torch.tensor([0, *order], device=labels.device)
        return self._step(picture, lookup[labels], order, idx_mask=True, **options)

    def _seen(self, picture: Tensor) -> Tensor:
        """Channel numbers (h, w) of the working size, as a look that leaves no trace but in the counts of what is used."""
        core = self._core
        kept = core.last_mask, core.curr_ti
        seen: Tensor = core.step(picture, end=True).argmax(0)
        core.last_mask, core.curr_ti = kept
        return seen

    def _step(self, picture: Tensor, masks: Tensor, ids: list[int], **options: bool) -> Tensor:
        maps: Tensor = self._core.step(picture, masks, ids, **options)
        return maps

    def _picture(self, image: Tensor) -> Tensor:
        """(3, h, w) float32, 0..1, of the working size: normalised inside the network, scaled without smoothing."""
        picture = image.to(self._device).permute(2, 0, 1).float()[None] / 255
        if picture.shape[2:] != self._frame.working:
            picture = functional.interpolate(picture, self._frame.working, mode="bilinear", align_corners=False)
        return picture[0]

    def _masks(self, masks: Tensor) -> Tensor:
        """(n, h, w) float32 of the working size; a mask too thin to survive keeps every place that it touches."""
        full = (masks.to(self._device) > 0).float()[None]
        if full.shape[2:] == self._frame.working:
            return full[0]
        scaled = functional.interpolate(full, self._frame.working, mode="nearest-exact")[0]
        lost = ((scaled.sum((1, 2)) == 0) & (full[0].sum((1, 2)) > 0)).nonzero()[:, 0]
        if len(lost):
            scaled[lost] = functional.adaptive_max_pool2d(full[0, lost], self._frame.working)
        return scaled

    @property
    def _device(self) -> torch.device:
        return next(self._network.parameters()).device

    def _precision(self) -> AbstractContextManager[Any]:
        if self._half and self._device.type == "cuda":
            return torch.autocast("cuda", torch.float16)
        return nullcontext()

    def save(self) -> dict[str, Any]:
        """A bounded tree of numbers and arrays, for `load`."""
        core = self._core
        memory, ids = core.memory, self.objects
        return {
            "objects": list(ids),
            "time": [int(core.curr_ti), int(core.last_mem_ti)],
            "grid": None if memory.H is None else [memory.H, memory.W, memory.CK, memory.CV],
            "last": None if core.last_mask is None else _array(core.last_mask),
            "sensory": [_array(memory.sensory[i]) for i in ids],
            "summaries": [_array(memory.obj_v[i]) for i in ids],
            "work": _save_store(memory.work_mem),
            "long": _save_store(memory.long_mem) if memory.use_long_term else None,
        }

    @torch.inference_mode()
    def load(self, tree: Mapping[str, Any]) -> None:
        """What `save` gave, into a fresh engine of the same making. Raises ValueError where it does not fit."""
        core, device = self._core, self._device
        memory, ids = core.memory, [int(i) for i in tree["objects"]]
        if ids:
            core.object_manager.add_new_objects(ids)
        core.curr_ti, core.last_mem_ti = tree["time"]
        memory.engaged = tree["grid"] is not None
        if tree["grid"] is not None:
            sizes = [*(side // 16 for side in self._frame.padded), self._network.key_dim, self._network.value_dim]
            if list(tree["grid"]) != sizes:
                raise ValueError("the snapshot was made for pictures, or by a network, of another size")
            memory.H, memory.W, memory.CK, memory.CV = tree["grid"]
        if tree["last"] is not None:
            core.last_mask = _tensor(tree["last"], device)
        memory.sensory = {i: _tensor(a, device) for i, a in zip(ids, tree["sensory"], strict=True)}
        memory.obj_v = {i: _tensor(a, device) for i, a in zip(ids, tree["summaries"], strict=True)}
        _load_store(memory.work_mem, tree["work"], device)
        if memory.use_long_term:
            _load_store(memory.long_mem, tree["long"], device)


_PER_BUCKET = ("k", "s", "e", "use_cnt", "life_cnt")


def _save_store(store: Any) -> dict[str, Any]:
    return {
        "next": store.global_bucket_id,
        "buckets": [
            {
                "number": number,
                "objects": list(members),
                "permanent": int(store.perm_end_pt[number]),
                "arrays": {
                    name: _array(getattr(store, name)[number])
                    for name in _PER_BUCKET
                    if hasattr(store, name) and number in getattr(store, name)
                },
                "values": [_array(store.v[i]) for i in members],
            }
            for number, members in store.buckets.items()
        ],
    }


def _load_store(store: Any, tree: Mapping[str, Any], device: torch.device) -> None:
    store.global_bucket_id = int(tree["next"])
    for bucket in tree["buckets"]:
        number = int(bucket["number"])
        store.buckets[number] = [int(i) for i in bucket["objects"]]
        store.perm_end_pt[number] = int(bucket["permanent"])
        for name, array in bucket["arrays"].items():
            getattr(store, name)[number] = _tensor(array, device)
        for i, array in zip(store.buckets[number], bucket["values"], strict=True):
            store.v[i] = _tensor(array, device)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.cpu().numpy()


def _tensor(array: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    return torch.from_numpy(array.copy()).to(device)
