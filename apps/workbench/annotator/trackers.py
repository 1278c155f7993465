"""The trackers that can be chosen on the page: their cards in a labeler's words."""

from __future__ import annotations

from typing import Any

from common.errors import UserError
from common.trackers import registry
from common.tracking.contract import GeometryKind, TrackerCard
from common.weights.entries import catalogue
from common.weights.store import Store

SHAPES: dict[GeometryKind, tuple[str, ...]] = {
    "box": ("rectangle",),
    "oriented_box": ("oriented_bbox",),
    "mask": ("bitmap", "polygon"),
    "points": ("point", "line", "graph", "polygon"),
}
"""What on the page each kind of geometry tracks."""


def tracker_cards() -> list[dict[str, Any]]:
    """One entry per tracker that can be made here, those that need nothing first."""
    entries, store = catalogue().entries, Store.from_env()
    cards = []
    for name in registry.names():
        try:
            card = registry.make(name).card
        except UserError:  # somebody else's that does not load; `models list` says why
            continue
        weights = entries.get(card.weights or "")
        there = card.weights is None or (weights is not None and store.status(weights) == "here")
        cards.append(_plain(card, there))
    return sorted(cards, key=lambda card: not card["ready"])


def _plain(card: TrackerCard, there: bool) -> dict[str, Any]:
    defaults = {name: kind for kind, name in registry.DEFAULTS.items()}
    return {
        "name": card.name,
        "title": card.title,
        "shapes": sorted({shape for kind in card.geometries for shape in SHAPES[kind]}),
        "licence": card.licence,
        "weights": card.weights,
        "weightsLicence": card.weights_licence,
        "ready": there,
        "default": card.name in defaults,
        "devices": list(card.devices),
        "memory": card.memory_bound,
        "paper": card.paper,
    }
