"""What the tests of all point networks share. The networks have seeded weights, so nothing is asked of their quality."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from common.networks.seeding import fill
from tests.contract.checks import CHECKS

NEED_TRAINING = {
    "follows_an_easy_object",
    "follows_an_easy_object_backward",
    "notices_that_the_object_has_left",
}

CHECKS_WITHOUT_TRAINING = [check for check in CHECKS if check.__name__ not in NEED_TRAINING]


def seeded(network: nn.Module, constants: tuple[str, ...] = ()) -> None:
    """Weights by name, ready to run."""
    fill(network, constants)
    network.eval().requires_grad_(False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks are slower on several threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
