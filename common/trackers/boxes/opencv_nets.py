"""VitTrack and NanoTrack behind the tracker contract: small networks that OpenCV's own tracker classes run on a CPU.

See opencv_nets_run.py for how they are driven.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import EngineUnavailable, WeightsMissing
from common.trackers.boxes.opencv_nets_run import NANO, VIT, Kind, OpenCVEngine
from common.trackers.boxes.siamese import SiameseTracker
from common.trackers.boxes.siamese_contract import Engine
from common.trackers.boxes.siamese_presence import PresenceSettings
from common.tracking.contract import TrackerCard
from common.weights.entries import catalogue
from common.weights.options import SEEDED, EngineOptions
from common.weights.store import Store

_KINDS: dict[str, Kind] = {"vittrack": VIT, "nanotrack": NANO}
_PRESENCE = {
    "vittrack": PresenceSettings(lost=0.25, found=0.4),
    "nanotrack": PresenceSettings(lost=0.4, found=0.75, patience=6),
}
"""VitTrack's own class calls an object lost below 0.2."""


def make(name: str, options: EngineOptions) -> SiameseTracker:
    """The tracker of a name in the catalogue of weights. options.weights may be a folder with its files, or the first of
    them; there is no seeded network, because OpenCV takes files only.
    """
    weights = catalogue().find(name)

    def open_engine() -> Engine:
        if options.device == "cuda":
            raise EngineUnavailable(f"{weights.title} runs on the CPU only; choose the device cpu or auto.")
        if options.weights == SEEDED:
            raise EngineUnavailable(f"{weights.title} runs published files only. Get them with: {weights.command}")
        if options.weights is None:
            return OpenCVEngine(_KINDS[name], Store.from_env().require(weights))
        given = Path(options.weights)
        folder = given if given.is_dir() else given.parent
        paths = [folder / file.name for file in weights.files]
        if not given.is_dir():
            paths[0] = given
        for path in paths:
            if not path.is_file():
                raise WeightsMissing(f"{path} is missing for {weights.title}. Get it with: {weights.command}")
        return OpenCVEngine(_KINDS[name], paths)

    card = TrackerCard(
        name=name,
        title=weights.title,
        geometries=frozenset({"box", "oriented_box"}),
        licence="Apache-2.0",
        memory_bound="the number of objects (about 1 MB each)",
        weights=name,
        weights_licence=weights.weights_licence,
        paper=weights.paper,
    )
    return SiameseTracker(card, open_engine, _PRESENCE[name])
