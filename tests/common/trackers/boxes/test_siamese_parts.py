"""Crops, presence and the bank of templates: decisions without a network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.trackers.boxes.siamese_crop import clip, crop_around, cut, cut_turned, place_back, sides
from common.trackers.boxes.siamese_presence import Presence, PresenceSettings
from common.trackers.boxes.template_bank import SLOTS, TemplateBank

IMAGE = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)


@settings(max_examples=80, deadline=None)
@given(st.integers(-40, 60), st.integers(-40, 60), st.integers(1, 50), st.booleans())
def test_a_crop_shows_the_picture_where_there_is_one(x, y, side, keep_last):
    shown = cut(IMAGE, x, y, side, side, (7, 8, 9), keep_last=keep_last)
    right = 31 if keep_last or x + side < 31 else 30
    bottom = 23 if keep_last or y + side < 23 else 22
    for row in range(side):
        for column in range(side):
            inside = 0 <= x + column < right and 0 <= y + row < bottom
            expected = IMAGE[y + row, x + column] if inside else (7, 8, 9)
            assert (shown[row, column] == expected).all()


def test_a_turned_crop_by_nothing_is_the_plain_one():
    plain = cut(IMAGE, 4, 3, 12, 12, (0, 0, 0), keep_last=True)
    turned = cut_turned(IMAGE, np.array([10.0, 9.0]), 12.0, 1e-9, 12, (0, 0, 0))
    assert abs(plain.astype(int) - turned).max() <= 1


def test_a_turned_crop_stands_upright():
    """Seen at a right angle, the columns of the picture are the rows of the crop."""
    turned = cut_turned(IMAGE, np.array([15.0, 11.0]), 10.0, np.pi / 2, 10, (0, 0, 0))
    expected = np.rot90(IMAGE[6:16, 10:20], 1)
    assert abs(turned.astype(int) - expected).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-20, 120), st.floats(-20, 90), st.floats(1, 80), st.floats(1, 80)),
    st.floats(-3, 3),
    st.sampled_from([64, 112, 288]),
)
def test_what_is_found_in_the_middle_of_a_crop_is_where_it_was(box, angle, size):
    boxes, turns = np.array([box]), np.array([angle])
    side = sides(boxes, 4.0)
    found = np.array([[0.5, 0.5, box[2] / side[0], box[3] / side[0]]], np.float32)
    np.testing.assert_allclose(place_back(found, boxes, turns, side, size), boxes, atol=1e-3)


def test_a_step_in_a_turned_crop_is_a_turned_step():
    boxes, side = np.array([[10.0, 10, 20, 20]]), np.array([80.0])
    found = np.array([[0.75, 0.5, 0.25, 0.25]], np.float32)
    placed = place_back(found, boxes, np.array([np.pi / 2]), side, 64)
    np.testing.assert_allclose(placed[0, :2] + placed[0, 2:] / 2, [20, 40], atol=1e-4)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((5, 5, 20, 20), 10, (5, 5, 20, 20)),
        ((-30, 5, 20, 20), 10, (0, 5, 10, 20)),
        ((95, 5, 20, -3), 10, (90, 5, 10, 10)),
        ((-5, -5, 200, 200), 10, (0, 0, 100, 80)),
        ((50, 50, 1, 1), 2, (50, 50, 2, 2)),
    ],
)
def test_boxes_are_cut_to_the_picture_and_keep_a_least_size(box, margin, expected):
    assert clip(np.array([box], float), 100, 80, np.array([float(margin)])).tolist() == [list(map(float, expected))]


def test_a_picture_smaller_than_the_margin_is_no_trouble():
    assert clip(np.array([[3.0, 3, 9, 9]]), 2, 1, np.array([10.0])).tolist() == [[0, 0, 2, 1]]


def test_crops_of_objects_over_every_edge_have_one_shape():
    boxes = np.array([[-15.0, 2, 20, 9], [29, 20, 1, 1], [0, 0, 31, 23], [400, 400, 5, 5]])
    for angle in (0.0, 0.7):
        crops = crop_around(IMAGE, boxes, np.full(4, angle), sides(boxes, 2.0), 16)
        assert crops.shape == (4, 16, 16, 3) and not crops[3].any()


def judged(scores):
    """What a run sees of one object: followed, hidden, factor of the next search."""
    settings = PresenceSettings(patience=3, widen=(1.0, 2.0))
    presence = Presence.begin(np.array([[40.0, 40, 20, 20]]))
    out = []
    for score in scores:
        follow = presence.judge(np.array([score]), settings)
        factor = presence.widening(settings, np.array([[40.0, 40, 20, 20]]), (640, 480))
        out.append((bool(follow[0]), bool(presence.hidden[0]), float(factor[0])))
    return out


def test_one_doubtful_frame_hides_nothing():
    assert judged([0.9, 0.1, 0.1, 0.9, 0.1]) == [(True, False, 1.0)] * 5


def test_a_lost_object_is_looked_for_ever_more_widely_until_the_network_is_sure():
    told = judged([0.1, 0.1, 0.1, 0.1, 0.5, 0.59, 0.6, 0.4])
    assert [hidden for _, hidden, _ in told] == [False, False, True, True, True, True, False, False]
    assert [follow for follow, _, _ in told] == [True, True, False, False, False, False, True, True]
    assert [factor for _, _, factor in told[2:7]] == [1.0, 2.0, 1.0, 2.0, 1.0]


def test_a_region_that_spans_the_picture_is_not_widened():
    settings = PresenceSettings(patience=1, widen=(3.0,))
    presence = Presence.begin(np.array([[0.0, 0, 600, 400]]))
    presence.judge(np.array([0.0]), settings)
    assert presence.widening(settings, np.array([[0.0, 0, 600, 400]]), (640, 480))[0] == 1.0


def test_only_sure_places_are_remembered():
    settings = PresenceSettings()
    presence = Presence.begin(np.zeros((2, 4)))
    presence.judge(np.array([0.9, 0.1]), settings)
    presence.remember(np.ones((2, 4)), settings)
    assert presence.sure.tolist() == [[1] * 4, [0] * 4]


def filled(most, entries):
    """A bank after that many entries, entry k a crop of value k % 256 with k in its box; and the published list."""
    first = np.full((1, 2, 2, 3), 255, np.uint8)
    bank = TemplateBank.begin(first, np.full((1, 4), -1, np.float32), 5, most)
    plain = [-1] * 5
    for k in range(entries):
        bank.add(np.array([0]), np.full((1, 2, 2, 3), k % 256, np.uint8), np.full((1, 4), k, np.float32))
        plain = [*plain, k][-most:]
    return bank, plain


@pytest.mark.parametrize("most", [5, 8, SLOTS])
@pytest.mark.parametrize("entries", [0, 1, 3, 7, 40, 300])
def test_a_small_bank_is_the_published_one(most, entries):
    bank, plain = filled(most, entries)
    step = len(plain) // 5
    _, boxes = bank.spread(5)
    assert boxes[0, :, 0].tolist() == [plain[step * i] for i in range(1, 5)]
    assert bank.length[0] == len(plain)


@pytest.mark.parametrize("entries", [0, 1, 3, 7, 40, 300, 501, 3000])
def test_a_large_bank_is_nearly_the_published_one(entries):
    bank, plain = filled(500, entries)
    step = len(plain) // 5
    crops, boxes = bank.spread(5)
    for shown, got, wanted in zip(crops[0], boxes[0, :, 0], [plain[step * i] for i in range(1, 5)], strict=True):
        assert got == wanted == -1 or (wanted >= 0 and abs(got - wanted) <= bank.every)
        assert (shown == (255 if got < 0 else int(got) % 256)).all()
    assert bank.crops.shape[1] <= SLOTS


def test_a_bank_smaller_than_its_beginning_is_refused():
    with pytest.raises(ValueError, match="cannot be limited"):
        filled(4, 0)
