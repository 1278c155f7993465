"""TAPNext++ as a tracker. The network itself is in `tapnext_run.py`, which needs torch."""

from __future__ import annotations

from common.trackers.points.network_run import Backend
from common.trackers.points.network_tracker import NetworkTracker
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

SIZES = {"tapnextpp": 256, "tapnextpp-512": 512}
"""Side of the square picture that each variant sees."""


def card(name: str) -> TrackerCard:
    """Of one of the variants."""
    size = SIZES[name]
    return TrackerCard(
        name=name,
        title="TAPNext++ (points)" if size == 256 else f"TAPNext++ {size} (points)",
        geometries=frozenset({"points"}),
        licence="Apache-2.0",
        memory_bound=f"{(size // 256) ** 2 * 151} MB for the picture, and the number of points (0.15 MB each)",
        weights=name,
        weights_licence="Apache-2.0",
        paper="TAPNext, ICCV 2025, https://arxiv.org/abs/2504.05579",
        devices=("cpu", "cuda"),
    )


def make(name: str, options: EngineOptions) -> NetworkTracker:
    """The tracker of that name; reads nothing yet."""

    def backend() -> Backend:
        from common.trackers.points.tapnext_run import open_backend

        return open_backend(name, options)

    return NetworkTracker(card(name), backend)
