"""TAPIR and BootsTAPIR as trackers. The network itself is in `tapir_run.py`, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from common.trackers.points.network_run import Backend
from common.trackers.points.network_tracker import NetworkTracker
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

WINDOW, OVERLAP = 64, 16
"""Of the variants that look at many frames at once."""


@dataclass(frozen=True)
class Variant:
    """weights: name in the catalogue. size: side of the network's picture; points are matched at 256 and refined up to
    it. temperature: see `Config`; it is not in the checkpoint."""

    weights: str
    title: str
    causal: bool
    boots: bool
    size: int
    temperature: float
    paper: str


_BOOTS, _TAPIR = (
    "BootsTAP, 2024, https://arxiv.org/abs/2402.00847",
    "TAPIR, ICCV 2023, https://arxiv.org/abs/2306.08637",
)

VARIANTS = {
    "bootstapir-online": Variant("bootstapir-online", "Online BootsTAPIR (points)", True, True, 256, 10.0, _BOOTS),
    "bootstapir-online-512": Variant(
        "bootstapir-online", "Online BootsTAPIR at 512 (points)", True, True, 512, 10.0, _BOOTS
    ),
    "bootstapir": Variant("bootstapir", "BootsTAPIR (points)", False, True, 256, 10.0, _BOOTS),
    "tapir": Variant("tapir", "TAPIR (points)", False, False, 256, 20.0, _TAPIR),
}


def card(name: str) -> TrackerCard:
    """Of one of the variants."""
    variant = VARIANTS[name]
    resolutions = 1 if variant.size == 256 else 2
    bound = (
        f"the number of points ({resolutions} MB each)" if variant.causal else f"the number of points, {WINDOW} frames"
    )
    return TrackerCard(
        name=name,
        title=variant.title,
        geometries=frozenset({"points"}),
        licence="Apache-2.0",
        memory_bound=bound,
        weights=variant.weights,
        weights_licence="Apache-2.0",
        lookahead=0 if variant.causal else WINDOW - 1,
        paper=variant.paper,
        devices=("cpu", "cuda"),
    )


def make(name: str, options: EngineOptions) -> NetworkTracker:
    """The tracker of that name; reads nothing yet."""

    def backend() -> Backend:
        from common.trackers.points.tapir_run import open_backend

        return open_backend(VARIANTS[name], options)

    return NetworkTracker(card(name), backend)
