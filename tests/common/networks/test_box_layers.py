"""The parts of the box networks that are algebra, against plain computations of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.networks.mcitrack.encoder import _inside
from common.networks.mcitrack.neck import TemporalMixer
from common.networks.mixformer.blocks import MixedAttention
from common.networks.mixformer.heads import region_pool
from common.networks.seeding import fill
from common.networks.vision_layers import FrozenBatchNorm, sine_table, to_grid, to_tokens


def bilinear(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map (h, w) between its cells, zero outside, at points of any shape."""
    out = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            out += grid[row, column] * np.clip(1 - abs(x - column), 0, 1) * np.clip(1 - abs(y - row), 0, 1)
    return out


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.floats(-2, 6), st.floats(-2, 6), st.floats(0.1, 7), st.floats(0.1, 7)),
    st.integers(0, 1000),
)
def test_region_pooling_is_the_mean_of_the_surface(box, seed):
    x, y, w, h = box
    grid = np.random.default_rng(seed).standard_normal((5, 6)).astype(np.float32)
    given_box = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
    pooled = region_pool(torch.from_numpy(grid)[None, None], given_box, 4)[0, 0].numpy()
    steps = (np.arange(400) + 0.5) / 400
    surface = bilinear(grid, x + w * steps[None, :], y + h * steps[:, None])
    np.testing.assert_allclose(pooled, surface.reshape(4, 100, 4, 100).mean((1, 3)), atol=2e-3)


@pytest.mark.parametrize("box", [(3, 3, 3, 5), (4, 2, 2, 5), (2, 5, 4, 4)])
def test_a_box_without_area_pools_to_zeros(box):
    grid = torch.ones(1, 3, 6, 6)
    assert not region_pool(grid, torch.tensor([box], dtype=torch.float32), 4).any()


def test_regions_are_pooled_each_from_its_own_map():
    grid = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 5, 5)
    pooled = region_pool(grid, torch.tensor([[1.0, 1, 3, 3]] * 3), 4)
    torch.testing.assert_close(pooled, grid[:, :, :4, :4].contiguous())


def test_templates_do_not_depend_on_the_search_region_and_search_sees_both():
    """Cached keys and values give what one pass over all tokens gives, with templates blind to the search region."""
    attention = MixedAttention(32, 4)
    fill(attention)
    template, search = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    alone, kept = attention(template, None)
    found, _ = attention(search, kept)
    everything = torch.cat((template, search), 1)
    query, key, value = (p.view(2, 12, 4, 8).transpose(1, 2) for p in attention.qkv(everything).chunk(3, -1))
    products = query @ key.transpose(2, 3) * 8**-0.5
    products[:, :, :5, 5:] = -torch.inf
    joint = attention.proj((products.softmax(-1) @ value).transpose(1, 2).reshape(2, 12, 32))
    torch.testing.assert_close(torch.cat((alone, found), 1), joint, rtol=1e-4, atol=1e-5)


def test_the_position_table_tells_columns_first():
    table = sine_table(16, 3)[0].view(3, 3, 16)
    torch.testing.assert_close(table[0, :, :8], table[2, :, :8])
    torch.testing.assert_close(table[:, 0, 8:], table[:, 2, 8:])
    assert table[0, 1, 0] == pytest.approx(np.sin(1.0)) and table[0, 1, 4] == pytest.approx(np.cos(1.0))


def test_tokens_and_grid_are_each_others_inverse():
    grid = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(to_grid(to_tokens(grid), 4), grid)


def test_frozen_normalisation_is_batch_normalisation_at_rest():
    ours, theirs = FrozenBatchNorm(6), torch.nn.BatchNorm2d(6).eval()
    fill(theirs)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if "tracked" not in k})
    grid = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(ours(grid), theirs(grid), rtol=1e-4, atol=1e-5)


def test_a_templates_box_is_counted_pixel_by_pixel():
    box = (0.21, 0.33, 0.4, 0.25)
    size, share = 64, np.zeros((64, 64))
    for y in range(size):
        for x in range(size):
            inside = box[0] * size <= x < (box[0] + box[2]) * size and box[1] * size <= y < (box[1] + box[3]) * size
            share[y, x] = inside
    expected = share.reshape(4, 16, 4, 16).mean((1, 3)).ravel()
    np.testing.assert_allclose(_inside(torch.tensor([box]), size, 16)[0], expected, atol=1e-6)


def test_no_state_is_a_state_of_zeros_and_objects_do_not_mix():
    mixer = TemporalMixer(16, 4)
    fill(mixer)
    tokens, state = torch.randn(3, 9, 16), torch.randn(3, 9, 32, 4)
    together, after = mixer(tokens, state)
    for i in range(3):
        alone, own = mixer(tokens[i : i + 1], state[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after[i : i + 1], own, rtol=1e-4, atol=1e-5)
