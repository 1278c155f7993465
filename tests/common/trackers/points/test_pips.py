"""PIPs and PIPs++ as a tracker keeps the contract: small networks of the same classes."""

from __future__ import annotations

from functools import partial

import pytest

from common.networks.pips import network, plusplus
from common.trackers.points import pips
from common.trackers.points.network_tracker import NetworkTracker
from common.trackers.points.pips_run import PipsBackend, PlusPlusBackend
from tests.common.trackers.points.networks import CHECKS_WITHOUT_TRAINING, one_thread, seeded

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def small(name: str) -> NetworkTracker:
    """The same classes, quick enough for hundreds of frames."""
    if name == "pips":
        net = network.Pips(network.Config(width=16, depth=1, iterations=1, channels=8, encoder=(8, 8, 8, 8)))
        seeded(net)
        return NetworkTracker(pips.card(name), lambda: PipsBackend(net, (32, 48)))
    config = plusplus.Config(stride=4, iterations=2, widths=(8, 8, 16), channels=8, encoder=(8, 8, 8, 8))
    other = plusplus.PipsPlusPlus(config)
    seeded(other)
    return NetworkTracker(pips.card(name), lambda: PlusPlusBackend(other, (32, 32), window=8))


@pytest.mark.parametrize("check", CHECKS_WITHOUT_TRAINING, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["pips", "pips2"])
def test_contract(name, check):
    check(partial(small, name), "points")
