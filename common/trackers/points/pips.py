"""PIPs and PIPs++ as trackers. The networks themselves are in `pips_run.py`, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from common.trackers.points.network_run import Backend
from common.trackers.points.network_tracker import NetworkTracker
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

WINDOW = 32
"""Frames that PIPs++ looks at together."""


@dataclass(frozen=True)
class Variant:
    """size: height and width of the network's picture. lookahead: frames held back at most."""

    title: str
    size: tuple[int, int]
    lookahead: int
    memory_bound: str
    paper: str


VARIANTS = {
    "pips": Variant(
        "PIPs (points)",
        (360, 640),
        7,
        "8 frames of features (10 MB each) and the number of points",
        "PIPs, ECCV 2022, https://arxiv.org/abs/2204.04153",
    ),
    "pips2": Variant(
        "PIPs++ (points)",
        (512, 896),
        2 * WINDOW - 2,
        f"{2 * WINDOW} frames of features (4 MB each) and the number of points",
        "PIPs++, ICCV 2023, https://arxiv.org/abs/2307.15055",
    ),
}


def card(name: str) -> TrackerCard:
    """Of one of the variants."""
    variant = VARIANTS[name]
    return TrackerCard(
        name=name,
        title=variant.title,
        geometries=frozenset({"points"}),
        licence="Apache-2.0",
        memory_bound=variant.memory_bound,
        weights=name,
        weights_licence="NOASSERTION",
        lookahead=variant.lookahead,
        paper=variant.paper,
        devices=("cpu", "cuda"),
    )


def make(name: str, options: EngineOptions) -> NetworkTracker:
    """The tracker of that name; reads nothing yet."""

    def backend() -> Backend:
        from common.trackers.points import pips_run

        opening = pips_run.open_pips if name == "pips" else pips_run.open_plus_plus
        return opening(name, VARIANTS[name].size, options)

    return NetworkTracker(card(name), backend)
