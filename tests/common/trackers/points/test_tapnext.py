"""TAPNext++ as a tracker keeps the contract: small networks of the same classes."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from common.networks.tapnext.network import Config, TapNext
from common.networks.tapnext.streams import Stream
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


def test_half_precision_stays_close():
    """What a GPU does by default, on a CPU: the same tracks to a fraction of a pixel, state and heads in single precision."""
    network = TapNext(Config(width=64, depth=3, heads=4, native=32, hidden=16))
    seeded(network)
    pictures = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for half in (False, True):
        stream = Stream(network, (32, 32), half)
        stream.add(torch.tensor([[5.0, 9.0], [20.0, 11.0]]), torch.zeros(2))
        with torch.inference_mode():
            found.append([stream.push(picture) for picture in pictures])
        assert stream.state is not None and stream.state[0][0].dtype == torch.float32
    for single, rough in zip(*found, strict=True):
        assert rough.logits.dtype == torch.float32
        torch.testing.assert_close(rough.logits, single.logits, atol=0.05, rtol=0.05)
        torch.testing.assert_close(rough.visible, single.visible, atol=0.05, rtol=0.05)
