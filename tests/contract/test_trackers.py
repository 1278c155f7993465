"""Every tracker that needs no weights, with every kind of geometry it takes, fulfils every obligation of the contract;
the tests of each network do the same with seeded weights."""

from __future__ import annotations

from functools import partial

import pytest

from common.trackers import registry
from tests.contract.checks import CHECKS

_BUILT_IN = [name for name in registry.names() if registry.make(name).card.weights is None]
_PAIRS = [(name, kind) for name in _BUILT_IN for kind in sorted(registry.make(name).card.geometries)]

_OF_PLAIN_BOXES = {
    "follows_an_easy_object",
    "gives_sound_predictions",
    "handles_prompts_of_every_size",
    "refuses_prompts_that_cannot_be_tracked",
    "resumes_from_a_snapshot_exactly",
    "takes_exemplars",
}
"""A tracker of both kinds of boxes does for an oriented one all that it does for a plain one, and the angle besides: of plain
boxes only what they are when they come in, go out and are saved."""


def _cases():
    for name, kind in _PAIRS:
        both = kind == "box" and (name, "oriented_box") in _PAIRS
        yield from ((name, kind, check) for check in CHECKS if not both or check.__name__ in _OF_PLAIN_BOXES)


@pytest.mark.parametrize(("name", "kind", "check"), _cases(), ids=lambda value: getattr(value, "__name__", value))
def test_contract(name, kind, check):
    check(partial(registry.make, name), kind)


def test_every_kind_has_a_tracker():
    assert {kind for _, kind in _PAIRS} == set(registry.DEFAULTS)
    for kind, name in registry.DEFAULTS.items():
        assert kind in registry.make(name).card.geometries


@pytest.mark.parametrize("name", registry.names())
def test_cards_are_filled_in(name):
    card = registry.make(name).card
    assert card.name == name and card.title and card.memory_bound and card.paper and card.devices
    assert card.licence and card.lookahead >= 0
    assert (card.weights is None) == (card.weights_licence is None)
