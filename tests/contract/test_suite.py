"""The contract suite itself: an honest tracker passes every check, and each dishonest one fails the one meant for it."""

from __future__ import annotations

import pytest

from tests.contract.checks import CHECKS, FLOORS, quality
from tests.contract.reference import BROKEN, TemplateTracker, _DoesNothing, _spoiled

_BY_NAME = {check.__name__: check for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", sorted(FLOORS))
def test_an_honest_tracker_passes(kind, check):
    check(TemplateTracker, kind)


@pytest.mark.parametrize("broken", sorted(BROKEN))
def test_a_dishonest_tracker_fails(broken):
    tracker, check = BROKEN[broken]
    with pytest.raises((AssertionError, pytest.fail.Exception, ValueError)):
        _BY_NAME[check](tracker, "box")


@pytest.mark.parametrize("kind", sorted(FLOORS))
def test_standing_still_is_far_below_the_floor(kind):
    for backward in (False, True):
        assert quality(_spoiled(_DoesNothing), kind, backward) < FLOORS[kind] - 0.15
