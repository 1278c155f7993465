"""Means of values weighted by attention, piece by piece."""

import pytest
import torch

from common.networks.sam2.attention import _KEYS, _QUERIES, _mean


@pytest.mark.parametrize("spread", [0.0, 1.0, 300.0], ids=["all alike", "usual", "one stands out"])
@pytest.mark.parametrize("counts", [(1, 1), (5, _KEYS), (_QUERIES + 3, 2 * _KEYS + 7)], ids=str)
def test_it_is_the_mean_by_softmax(counts: tuple[int, int], spread: float) -> None:
    torch.manual_seed(0)
    query, keys, values = torch.randn(counts[0], 16), torch.randn(counts[1], 16), torch.randn(counts[1], 5)
    scale = spread / 16
    exact = torch.softmax(query.double() @ keys.double().T * scale, 1) @ values.double()
    assert torch.allclose(_mean(query, keys, values, scale).double(), exact, atol=2e-5 * max(1.0, spread / 16))
