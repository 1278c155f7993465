"""TAPNext++ as a tracker keeps the contract: small networks of the same classes."""

from __future__ import annotations

from functools import partial

import pytest

from common.networks.tapnext.network import Config, TapNext
from common.trackers.points import tapnext
from common.trackers.points.network_tracker import NetworkTracker
from common.trackers.points.tapnext_run import TapNextBackend
from tests.common.trackers.points.networks import CHECKS_WITHOUT_TRAINING, one_thread, seeded

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def small(size: int) -> NetworkTracker:
    """The same classes, quick enough for hundreds of frames. At 64 the table of positions is stretched."""
    network = TapNext(Config(width=16, depth=2, heads=2, native=32, hidden=8))
    seeded(network)
    return NetworkTracker(tapnext.card("tapnextpp"), lambda: TapNextBackend(network, size))


@pytest.mark.parametrize("check", CHECKS_WITHOUT_TRAINING, ids=lambda check: check.__name__)
@pytest.mark.parametrize("size", [32, 64])
def test_contract(size, check):
    check(partial(small, size), "points")
