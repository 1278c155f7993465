"""CoTracker3 as a tracker keeps the contract: small networks of the same classes."""

from __future__ import annotations

from functools import partial

import pytest

from common.networks.cotracker.network import Config, CoTracker
from common.trackers.points import cotracker
from common.trackers.points.cotracker_run import CoTrackerBackend
from common.trackers.points.network_tracker import NetworkTracker
from tests.common.trackers.points.networks import CHECKS_WITHOUT_TRAINING, one_thread, seeded

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def small(name: str) -> NetworkTracker:
    """The same classes and windows, quick enough for hundreds of frames."""
    variant = cotracker.VARIANTS[name]
    config = Config(
        window=variant.window,
        resolution=(32, 32),
        radius=1,
        levels=2,
        virtual=2,
        width=16,
        hidden=8,
        correlation=8,
        depth=1,
        iterations=1,
        channels=8,
        encoder=(8, 8, 8, 8),
    )
    network = CoTracker(config)
    seeded(network, ("time_emb",))
    return NetworkTracker(cotracker.card(name), lambda: CoTrackerBackend(network, variant))


@pytest.mark.parametrize("check", CHECKS_WITHOUT_TRAINING, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["cotracker3-online", "cotracker3-offline"])
def test_contract(name, check):
    check(partial(small, name), "points")
