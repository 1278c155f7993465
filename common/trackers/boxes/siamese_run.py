"""One tracking in progress with a network for boxes: the published procedure, and around it what a labeler needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.geometry.types import Box, OrientedBox
from common.trackers.boxes.patches import Pyramid
from common.trackers.boxes.siamese_contract import Engine, Procedure
from common.trackers.boxes.siamese_crop import Bool
from common.trackers.boxes.siamese_presence import Presence, PresenceSettings
from common.trackers.boxes.siamese_turn import Turns
from common.tracking.contract import Prediction
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image


class SiameseRun:
    """See `common.tracking.contract.Run`. All objects go through the network in one batch per frame."""

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        keys: list[str],
        oriented: Bool,
        procedure: Procedure,
        presence: Presence,
        turns: Turns,
        settings: PresenceSettings,
    ) -> None:
        self._name, self._size, self._keys, self._oriented = name, size, keys, oriented
        self._procedure, self._presence, self._turns, self._settings = procedure, presence, turns, settings

    @classmethod
    def load(cls, name: str, engine: Engine, state: bytes, settings: PresenceSettings) -> SiameseRun:
        """From `save`. Raises ValueError when the bytes are not one of this tracker's."""
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("tracker") != name:
            raise ValueError(f"this state was not saved by the tracker {name}")
        return cls(
            name,
            tuple(tree["size"]),
            tree["keys"],
            tree["oriented"],
            engine.resume(tree["procedure"]),
            Presence(**tree["presence"]),
            Turns(**tree["turns"]),
            settings,
        )

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, uint8 (height, width, 3); one frame comes out."""
        if image.shape != (self._size[1], self._size[0], 3):
            raise ValueError(f"frames of this run are {self._size[0]} x {self._size[1]} RGB, got shape {image.shape}")
        procedure, presence, settings = self._procedure, self._presence, self._settings
        found = procedure.follow(image, presence.widening(settings, procedure.boxes, self._size))
        follow = presence.judge(found.score, settings)
        procedure.accept(image, found, follow, follow)
        if presence.hidden.any():
            # What was taken for the object while in doubt is forgotten.
            procedure.boxes = np.where(presence.hidden[:, None], presence.sure, procedure.boxes)
        presence.remember(procedure.boxes, settings)
        if self._oriented.any():
            procedure.angle = self._turns.update(Pyramid(image), procedure.boxes, procedure.angle, follow)
        return [[self._prediction(i) for i in range(len(self._keys))]]

    def flush(self) -> list[list[Prediction]]:
        """Nothing is held back."""
        return []

    def save(self) -> bytes:
        """Snapshot of bounded size."""
        tree: dict[str, Any] = {
            "tracker": self._name,
            "size": list(self._size),
            "keys": self._keys,
            "oriented": self._oriented,
            "procedure": self._procedure.to_tree(),
            "presence": self._presence.to_tree(),
            "turns": self._turns.to_tree(),
        }
        return pack(tree)

    def _prediction(self, i: int) -> Prediction:
        presence = self._presence
        hidden = bool(presence.hidden[i])
        if hidden and presence.missing[i] >= self._settings.guesses:
            return Prediction(self._keys[i], None, 0.0, False)
        score = float(np.clip(presence.score[i], 0.0, 1.0))
        if hidden:
            score = min(score, self._settings.lost)
        x, y, w, h = self._procedure.boxes[i].tolist()
        if self._oriented[i]:
            # The size is the person's: taken from the network frame by frame it would creep with every turn.
            width, height = self._turns.drawn[np.searchsorted(self._turns.who, i)].tolist()
            turned = OrientedBox(
                np.array([x + w / 2, y + h / 2, width, height], np.float32), float(self._procedure.angle[i])
            )
            return Prediction(self._keys[i], turned, score, not hidden)
        box = Box(np.array([x, y, x + w, y + h], np.float32))
        return Prediction(self._keys[i], box, score, not hidden)
