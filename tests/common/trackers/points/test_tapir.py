"""TAPIR as a tracker keeps the contract: small networks of the same classes, and the published sizes once."""

from __future__ import annotations

from functools import partial

import pytest

from common.networks.tapir.network import Config, Tapir
from common.trackers.points import tapir
from common.trackers.points.network_tracker import NetworkTracker
from common.trackers.points.tapir_run import TapirBackend
from tests.common.trackers.points.networks import CHECKS_WITHOUT_TRAINING, one_thread, seeded


def small(causal: bool) -> NetworkTracker:
    """The same classes, quick enough for hundreds of frames."""
    network = Tapir(
        Config(
            causal=causal,
            extra_convs=False,
            iterations=1,
            blocks=2,
            width=16,
            channels=(8, 8, 8, 8),
            pyramid_level=0,
            initial=(16, 16),
        )
    )
    seeded(network)
    name = "bootstapir-online" if causal else "bootstapir"
    return NetworkTracker(tapir.card(name), lambda: TapirBackend(network, 16, window=8, overlap=4))


pytestmark = pytest.mark.usefixtures(one_thread.__name__)


@pytest.mark.parametrize("check", CHECKS_WITHOUT_TRAINING, ids=lambda check: check.__name__)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "windowed"])
def test_contract(causal, check):
    check(partial(small, causal), "points")
