"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.detection.contract import Detections, Detector, DetectorCard, Resumable
from common.detection.fusion import weighted_fusion
from common.errors import EngineUnavailable
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image


class Ensemble:
    """A `Detector` that asks several and fuses what they say. Classes of the same name are one class.

    weights: trust in each, > 0. overlap: as in `weighted_fusion`.
    """

    def __init__(
        self, detectors: Sequence[Detector], weights: Sequence[float] | None = None, overlap: float = 0.55
    ) -> None:
        if len(detectors) < 2:
            raise EngineUnavailable("An ensemble has two detectors or more.")
        self._detectors, self._weights, self._overlap = list(detectors), weights, overlap

    @property
    def card(self) -> DetectorCard:
        cards = [one.card for one in self._detectors]
        kinds = {card.finds for card in cards}
        licences = dict.fromkeys(card.weights_licence for card in cards if card.weights_licence)
        return DetectorCard(
            name="+".join(card.name for card in cards),
            title=", ".join(card.title for card in cards),
            classes=tuple(dict.fromkeys(name for card in cards for name in card.classes)),
            licence=" AND ".join(dict.fromkeys(card.licence for card in cards)),
            memory_bound="the sum of its detectors'",
            temporal=any(card.temporal for card in cards),
            weights=next((card.weights for card in cards if card.weights), None),
            weights_licence=" AND ".join(licences) or None,
            paper="Solovyev et al. 2021, Weighted boxes fusion",
            devices=tuple(d for d in cards[0].devices if all(d in card.devices for card in cards)) or ("cpu",),
            finds=kinds.pop() if len(kinds) == 1 else "box",
        )

    def prepare(self) -> None:
        """Reads the weights of all of them now."""
        for one in self._detectors:
            ready = getattr(one, "prepare", None)
            if ready is not None:
                ready()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        by_detector = [one.detect(images) for one in self._detectors]
        place = {name: number for number, name in enumerate(self.card.classes)}
        tables = [np.array([place[name] for name in one.card.classes], np.int64) for one in self._detectors]
        fused = []
        for picture in zip(*by_detector, strict=True):
            alike = [replace(found, classes=table[found.classes]) for found, table in zip(picture, tables, strict=True)]
            fused.append(weighted_fusion(alike, self._weights, self._overlap))
        return fused

    def state(self) -> bytes | None:
        """See `Resumable`: what its members remember."""
        states = [one.state() if isinstance(one, Resumable) else None for one in self._detectors]
        for one, state in zip(self._detectors, states, strict=True):
            if state is None and one.card.temporal:
                return None
        return pack({"name": self.card.name, "states": states})

    def restore(self, state: bytes) -> None:
        """See `Resumable`."""
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("name") != self.card.name:
            raise ValueError(f"not a snapshot of {self.card.name!r}")
        for one, part in zip(self._detectors, tree["states"], strict=True):
            if part is not None and isinstance(one, Resumable):
                one.restore(part)
