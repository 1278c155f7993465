"""Our tracker app around a tracker that gives every box back where it was: what is measured is all the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from common.geometry import codec
from common.serving.app import create_app
from common.serving.engines import Engines
from common.serving.settings import TrackerApp
from common.tracking.contract import Exemplar, Prediction, Prompt, Run, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

PACE_S = float(os.environ.get("BENCHMARK_PACE_MS", "0")) / 1000
"""Time a network would take per object and frame."""


class StillRun:
    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = tuple(prompts)

    def push(self, image: Image) -> list[list[Prediction]]:
        time.sleep(PACE_S * len(self._prompts))
        return [[Prediction(prompt.key, prompt.geometry, 1.0, True) for prompt in self._prompts]]

    def flush(self) -> list[list[Prediction]]:
        return []

    def save(self) -> bytes:
        return pack([(prompt.key, codec.encode(prompt.geometry)) for prompt in self._prompts])


class Still:
    card = TrackerCard("still", "Still", frozenset({"box"}), "Apache-2.0", "constant")

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        stamp(Path(os.environ["BENCHMARK_STAMP"]))
        return StillRun(prompts)

    def load(self, state: bytes) -> Run:
        return StillRun([Prompt(key, codec.decode(geometry)) for key, geometry in unpack(state)])


def stamp(path: Path) -> None:
    """Writes down when the first frame was there."""
    if not path.exists():
        path.write_text(str(time.time()))


app = create_app(TrackerApp("Still", "1.0.0", ("rectangle",)), engines=Engines({"box": "still"}, lambda _: Still()))
