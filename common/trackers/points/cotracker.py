"""CoTracker3 as a tracker. The network itself is in `cotracker_run.py`, which needs torch. Its weights are non-commercial."""

from __future__ import annotations

from dataclasses import dataclass

from common.trackers.points.network_run import Backend
from common.trackers.points.network_tracker import NetworkTracker
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions


@dataclass(frozen=True)
class Variant:
    """window, step: frames looked at together, and by how many the window moves on. online: the network that wants full
    windows, and counts both its logits for visibility."""

    title: str
    window: int
    step: int
    online: bool


VARIANTS = {
    "cotracker3-online": Variant("CoTracker3 online (points, non-commercial)", 16, 8, True),
    "cotracker3-offline": Variant("CoTracker3 offline (points, non-commercial)", 60, 30, False),
}


def card(name: str) -> TrackerCard:
    """Of one of the variants."""
    variant = VARIANTS[name]
    return TrackerCard(
        name=name,
        title=variant.title,
        geometries=frozenset({"points"}),
        licence="Apache-2.0",
        memory_bound=f"{variant.window} frames of features (8 MB each) and the number of points (0.1 MB each)",
        weights=name,
        weights_licence="CC-BY-NC-4.0",
        lookahead=variant.window - 1,
        paper="CoTracker3, 2024, https://arxiv.org/abs/2410.11831",
        devices=("cpu", "cuda"),
    )


def make(name: str, options: EngineOptions) -> NetworkTracker:
    """The tracker of that name; reads nothing yet."""

    def backend() -> Backend:
        from common.trackers.points.cotracker_run import open_backend

        return open_backend(name, VARIANTS[name], options)

    return NetworkTracker(card(name), backend)
