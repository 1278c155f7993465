"""Objects that come in and go out over the picture's edge: figures of what must be in the picture, no more and no less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.association.contract import Tracks
from common.labeling.ends import continued
from common.video.contract import VideoInfo
from tests.common.labeling.toys import ToyVideo

INFO = replace(ToyVideo(seed=1).info, width=200, height=150, frames=80, fps=25.0)
SIZE = np.array([40.0, 30.0])


def passing(info: VideoInfo = INFO) -> np.ndarray:
    """True boxes (frames, 4) of a thing that crosses the picture from left to right, NaN where it is out of it."""
    x = -60 + 4.0 * np.arange(info.frames)
    whole = np.stack((x, np.full(len(x), 60.0), x + SIZE[0], np.full(len(x), 60.0 + SIZE[1])), 1)
    seen = np.clip(whole, 0, [info.width, info.height] * 2)
    return np.where((seen[:, 2] - seen[:, 0] > 0)[:, None], seen, np.nan)


def tracks(boxes: np.ndarray, frames: np.ndarray, identity: int = 1) -> Tracks:
    n = len(frames)
    ones = np.ones(n, np.int64)
    return Tracks(
        frames, identity * ones, boxes[frames].astype(np.float32), ones.astype(np.float32), 0 * ones, 0 * ones
    )


def shares(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1) / SIZE.prod()


def test_an_object_found_late_and_lost_early_is_followed_to_the_edges():
    true = passing()
    whole = np.flatnonzero((true[:, 0] > 6) & (true[:, 2] < 194))
    made = continued(tracks(true, whole), INFO)
    np.testing.assert_allclose(made.xyxy, true[made.frames], atol=0.1)
    there = np.flatnonzero(shares(true) >= 0.27)
    assert set(there) <= set(made.frames.tolist()) and shares(true)[made.frames].min() >= 0.24
    assert (made.rows[np.isin(made.frames, whole)] == 0).all() and (made.rows[~np.isin(made.frames, whole)] == -1).all()


def test_figures_at_the_edge_show_as_much_as_must_be_there_and_slivers_go():
    true = passing()
    there = np.flatnonzero(np.isfinite(true[:, 0]))
    lagging = true.copy()
    entering = there[true[there, 0] == 0]
    lagging[entering, 2] = np.maximum(lagging[entering, 2] - 7, 1)
    made = continued(tracks(lagging, there), INFO)
    assert 0.25 <= shares(made.xyxy).min() < 0.35
    np.testing.assert_allclose(made.xyxy, true[made.frames], atol=0.5)


@pytest.mark.parametrize("known", [range(12), range(14, 16)])
def test_nothing_is_added_where_a_person_labelled(known):
    true = passing()
    whole = np.flatnonzero((true[:, 0] > 6) & (true[:, 2] < 194))
    made = continued(tracks(true, whole), INFO, known)
    assert not set(made.frames.tolist()) & set(known)
    if known.start:  # nor beyond it
        assert made.frames[0] == max(known) + 1


def test_a_place_that_another_object_has_is_left_to_it():
    true = passing()
    whole = np.flatnonzero((true[:, 0] > 6) & (true[:, 2] < 194))
    other = tracks(true, np.arange(15, whole[0]), 2)
    made = continued(Tracks.joined([tracks(true, whole), other]), INFO)
    assert (made.frames[made.ids == 1] >= whole[0]).all()


def test_what_stands_in_the_middle_stays_as_it_is():
    still = np.repeat(np.array([[80.0, 60, 120, 90]]), INFO.frames, 0)
    given = tracks(still, np.arange(38, 48))
    made = continued(given, INFO)
    np.testing.assert_array_equal(made.frames, given.frames)
    np.testing.assert_array_equal(made.xyxy, given.xyxy)


def test_turned_boxes_and_no_boxes_are_left_alone():
    true = passing()
    whole = np.flatnonzero((true[:, 0] > 6) & (true[:, 2] < 194))
    turned = replace(tracks(true, whole), oriented=np.zeros((len(whole), 5), np.float32))
    assert continued(turned, INFO) is turned
    assert len(continued(Tracks(), INFO)) == 0


def test_what_comes_out_from_behind_something_in_the_picture_is_not_followed_to_the_edge():
    true = passing()
    late = np.flatnonzero((true[:, 0] > 60) & (true[:, 2] < 150))
    made = continued(tracks(true, late), INFO)
    np.testing.assert_array_equal(made.frames, late)
