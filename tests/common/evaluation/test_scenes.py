"""The synthetic scenes: deterministic, any order, and the truth fits the pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import FrameUnreadable
from common.evaluation.motion import Camera, Motion, Ripple, transform
from common.evaluation.outlines import rectangle, star
from common.evaluation.paint import patterned
from common.evaluation.scenes import Scene, SceneObject, leaving_scene, mask_box, random_scene


def _flat(colour):
    def paint(rng, height, width):
        return np.full((height, width, 3), colour, np.float32)

    return paint


def _plain(*objects, camera=None, **options) -> Scene:
    return Scene(1, 40, 64, 48, tuple(objects), camera or Camera(), ground=_flat((0, 0, 0)), **options)


def test_same_arguments_same_bytes_in_any_order():
    one, two = (random_scene(5, 30, 96, 64, 2, noise=3, shutter=0.5, light=0.2, occluder=True) for _ in range(2))
    backward = list(two.source().stream(29, -1))[::-1]
    for index, image in enumerate(one.source().stream(0, 30)):
        assert image.dtype == np.uint8 and image.shape == (64, 96, 3) and image.flags.c_contiguous
        np.testing.assert_array_equal(image, backward[index])
    np.testing.assert_array_equal(one.source().read(7), backward[7])
    assert not np.array_equal(backward[7], random_scene(6, 30, 96, 64, 2).render(7))


def test_a_frame_that_does_not_exist():
    source = random_scene(1, 3, 32, 32, 1).source()
    with pytest.raises(FrameUnreadable) as caught:
        list(source.stream(1, 9))
    assert caught.value.index == 3
    with pytest.raises(FrameUnreadable):
        source.read(-1)


def test_pixel_convention_of_a_rectangle():
    """A 10 x 6 rectangle about pixel centre (20.5, 15.5) covers columns 16..25 and rows 13..18 exactly."""
    thing = SceneObject("r", rectangle(10, 6), Motion((20.5, 15.5)), _flat((200, 100, 50)))
    scene = _plain(thing)
    truth = scene.truth(0)["r"]
    expected = np.zeros((48, 64), bool)
    expected[13:19, 16:26] = True
    np.testing.assert_array_equal(truth.mask, expected)
    np.testing.assert_allclose(truth.box.xyxy, (16, 13, 26, 19))
    np.testing.assert_allclose(truth.amodal.xyxy, (16, 13, 26, 19), atol=1e-4)
    np.testing.assert_allclose(truth.oriented.cxcywh, (21, 16, 10, 6), atol=1e-4)
    assert truth.visible_fraction == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(scene.render(0)[15, 20], (200, 100, 50))


@pytest.mark.parametrize("seed", range(4))
def test_visible_points_have_their_looks_in_every_frame(seed):
    """Under no light change, the picture's patch about a visible point of a rigid object is that of frame 0."""
    scene = random_scene(seed, 12, 160, 120, 2, turn=0.0, grow=0.0, pan=0.0, speed=2)
    first, last = scene.render(0).astype(np.float32), scene.render(11).astype(np.float32)
    before, after = scene.truth(0), scene.truth(11)
    seen = 0
    for a, b in zip(before.objects, after.objects, strict=True):
        for p, q in zip(
            a.points.xy[a.points.visible & b.points.visible],
            b.points.xy[a.points.visible & b.points.visible],
            strict=True,
        ):
            patch_a = cv2.getRectSubPix(first, (5, 5), (float(p[0]), float(p[1])))
            patch_b = cv2.getRectSubPix(last, (5, 5), (float(q[0]), float(q[1])))
            wrong = cv2.getRectSubPix(last, (5, 5), (float(q[0]) + 3, float(q[1])))
            seen += 1
            assert np.abs(patch_a - patch_b).mean() < 14
            assert np.abs(patch_a - patch_b).mean() < np.abs(patch_a - wrong).mean() + 3
    assert seen > 10


def test_background_points_follow_the_camera():
    scene = random_scene(2, 30, 160, 120, 1, pan=0.2)
    start, end = scene.truth(4), scene.truth(25)
    moved = transform(scene.camera_between(4, 25), start.background.xy.astype(np.float64))
    np.testing.assert_allclose(moved, end.background.xy, atol=1e-3)
    np.testing.assert_allclose(scene.truth(0).camera, np.eye(3), atol=1e-12)
    warped = cv2.warpAffine(scene.render(4), scene.camera_between(4, 25)[:2], (160, 120))
    free = ~np.any([o.mask for o in end.objects], 0) & ~cv2.warpAffine(
        np.any([o.mask for o in start.objects], 0).astype(np.uint8),
        scene.camera_between(4, 25)[:2],
        (160, 120),
        borderValue=1,
    ).astype(bool)
    free = cv2.erode(free.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    assert free.sum() > 500
    assert np.abs(warped.astype(int) - scene.render(25))[free].mean() < 8


@pytest.mark.parametrize("seed", range(3))
def test_boxes_masks_and_visibility_fit(seed):
    scene = random_scene(seed, 40, 200, 150, 4, occluder=True, ripple=2)
    for frame in (0, 13, 39):
        truth = scene.truth(frame)
        assert [o.key for o in truth.objects] == list(scene.keys) == [f"object-{i}" for i in range(1, 5)]
        assert np.sum([o.mask for o in truth.objects], 0).max() <= 1
        for thing in truth.objects:
            box = mask_box(thing.mask)
            assert (box is None) == (thing.box is None) == (not thing.visible)
            if box is None:
                continue
            assert box == thing.box
            assert (thing.amodal.xyxy[:2] - 1 <= box.xyxy[:2]).all() and (
                box.xyxy[2:] <= thing.amodal.xyxy[2:] + 1
            ).all()
            corners = thing.oriented.corners()
            assert (corners.min(0) - 1 <= thing.amodal.xyxy[:2]).all()
            for x, y in np.rint(thing.points.xy[thing.points.visible]).astype(int):
                assert thing.mask[y, x]
            assert len(thing.points.xy) == scene.points
            assert len(thing.polygon.edges) == len(thing.polygon.xy) == 12


def test_everything_can_be_seen_when_it_begins():
    fractions = [o.visible_fraction for seed in range(8) for o in random_scene(seed, 5, 160, 120, 3).truth(0).objects]
    assert min(fractions) > 0.6 and np.mean(fractions) > 0.9


def test_occluders_hide_but_are_not_in_the_truth():
    thing = SceneObject("a", rectangle(10, 10), Motion((20, 20)), _flat((255, 0, 0)))
    post = SceneObject("post", rectangle(30, 30), Motion((20, 20)), _flat((0, 255, 0)), tracked=False)
    truth = _plain(thing, post).truth(0)
    assert [o.key for o in truth.objects] == ["a"]
    assert not truth["a"].visible and truth["a"].visible_fraction == 0 and truth["a"].box is None
    assert truth["a"].amodal is not None and not truth["a"].points.visible.any()
    in_front = _plain(post, thing).truth(0)["a"]
    assert in_front.visible_fraction == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("back", [None, 30])
def test_leaving_and_returning(back):
    scene = leaving_scene(3, 50, 80, 60, leave=15, back=back)
    visible = [scene.truth(i).objects[0].visible for i in range(50)]
    assert all(visible[:10]) and not any(visible[15:30])
    assert visible[45] is (back is not None)
    np.testing.assert_array_equal(np.abs(scene.render(45).astype(int) - scene.render(0)).max() < 3, back is not None)


def test_absent_objects_have_no_geometry():
    thing = SceneObject("a", rectangle(10, 10), Motion((20, 20), absent=((3, 6),)), _flat((255, 0, 0)))
    scene = _plain(thing)
    assert [scene.truth(i)["a"].visible for i in range(8)] == [True] * 3 + [False] * 3 + [True] * 2
    assert scene.truth(4)["a"].amodal is None and scene.render(4).max() == 0


def test_noise_light_and_shutter_change_the_picture_not_the_truth():
    make = {"seed": 3, "frames": 20, "width": 96, "height": 72, "objects": 2, "speed": 4}
    plain = random_scene(**make)
    for option in ({"noise": 5.0}, {"light": 0.4}, {"shutter": 0.9}, {"blur": 1.5}):
        other = random_scene(**make, **option)
        assert np.abs(plain.render(9).astype(int) - other.render(9)).mean() > 0.3
        for a, b in zip(plain.truth(9).objects, other.truth(9).objects, strict=True):
            np.testing.assert_array_equal(a.mask, b.mask)


@given(
    amplitude=st.floats(0.1, 8),
    wavelength=st.floats(30, 200),
    period=st.floats(4, 90),
    time=st.floats(-50, 5000),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_ripples_are_undone_exactly(amplitude, wavelength, period, time, seed):
    ripple = Ripple(amplitude, wavelength, period)
    xy = np.random.default_rng(seed).uniform(-80, 80, (20, 2))
    np.testing.assert_allclose(ripple.undo(ripple.apply(xy, time), time), xy, atol=1e-9)


@given(
    pan=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    zoom=st.floats(-0.4, 0.4),
    roll=st.floats(-0.5, 0.5),
    shake=st.floats(0, 4),
    time=st.floats(0, 3000),
)
@settings(max_examples=200, deadline=None)
def test_the_background_always_fills_the_picture(pan, zoom, roll, shake, time):
    camera = Camera(pan, zoom, roll, 100, shake)
    margin_x, margin_y = camera.margin(160, 120)
    corners = np.array([[0, 0], [159, 0], [159, 119], [0, 119]], float)
    world = transform(np.linalg.inv(camera.matrix(time, 160, 120)), corners)
    assert (world >= (-margin_x, -margin_y)).all() and (world <= (159 + margin_x, 119 + margin_y)).all()


@pytest.mark.parametrize(("width", "height"), [(16, 16), (1, 1), (17, 9), (321, 241)])
def test_any_size(width, height):
    scene = random_scene(1, 5, width, height, 2, noise=1)
    assert scene.render(4).shape == (height, width, 3)
    assert scene.truth(4).objects[0].mask.shape == (height, width)


def test_wrong_scenes_are_refused():
    with pytest.raises(ValueError, match="frames"):
        Scene(1, 0, 10, 10)
    thing = SceneObject("a", star(10), Motion((5, 5)), patterned((200, 0, 0)))
    with pytest.raises(ValueError, match="key"):
        Scene(1, 3, 10, 10, (thing, thing))
