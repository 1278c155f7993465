"""The Lucas-Kanade tracker keeps the tracker contract on hard and tiny input, and does not drift."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from common.errors import PromptInvalid
from common.geometry.types import Box, Points
from common.trackers.points.lucas_kanade import LucasKanadeRun, LucasKanadeTracker
from common.tracking.contract import Prediction, Prompt


def texture(seed: int, width: int, height: int) -> np.ndarray:
    """Smooth random texture with details of several sizes, RGB uint8."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells, gain in ((4, 1.0), (12, 0.8), (40, 0.6), (90, 0.3)):
        total += gain * cv2.resize(
            rng.random((cells, cells, 3), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    low, high = total.min(), total.max()
    return (255 * (total - low) / (high - low)).astype(np.uint8)


def shifted(image: np.ndarray, dx: float, dy: float, width: int, height: int) -> np.ndarray:
    """Window (width, height) of the image whose content has moved by (dx, dy)."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def follow(run: LucasKanadeRun, images: list[np.ndarray]) -> list[list[Prediction]]:
    given = [frame for image in images for frame in run.push(image)]
    given += run.flush()
    return given


def clip(frames: int, width: int = 160, height: int = 120, seed: int = 0) -> list[np.ndarray]:
    base = texture(seed, width, height)
    return [shifted(base, 1.3 * t, 0.6 * t, width, height) for t in range(frames)]


def spread(n: int, width: int, height: int, seed: int = 1) -> Points:
    return Points(np.random.default_rng(seed).uniform((5, 5), (width - 6, height - 6), (n, 2)).astype(np.float32))


def test_same_input_gives_the_same_bytes() -> None:
    images = clip(8)
    prompts = [Prompt("a", spread(12, 160, 120)), Prompt("b", spread(3, 160, 120, 2))]
    first, second = (LucasKanadeTracker().start(images[0], prompts) for _ in range(2))
    assert follow(first, images[1:]) == follow(second, images[1:])
    assert first.save() == second.save()


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_a_loaded_run_continues_exactly(stop: int) -> None:
    images = clip(12)
    tracker = LucasKanadeTracker()
    whole = tracker.start(images[0], [Prompt("a", Points(spread(9, 160, 120).xy, edges=((0, 1), (1, 2), (2, 0))))])
    follow(whole, images[1 : 1 + stop])
    resumed = tracker.load(whole.save())
    assert follow(whole, images[1 + stop :]) == follow(resumed, images[1 + stop :])
    assert whole.save() == resumed.save()


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (3, 5), (1, 1), (161, 37)])
@pytest.mark.parametrize("content", ["gray", "noise", "gradient"])
def test_any_frame_size_and_content(size: tuple[int, int], content: str) -> None:
    width, height = size
    rng = np.random.default_rng(0)
    frames = {
        "gray": [np.full((height, width, 3), 128, np.uint8)] * 4,
        "noise": [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)],
        "gradient": [np.tile(np.linspace(0, 200, width, dtype=np.uint8)[None, :, None], (height, 1, 3))] * 4,
    }[content]
    points = Points(np.array([[0, 0], [width - 1, height - 1], [width / 2, height / 2], [-9, -9]], np.float32))
    run = LucasKanadeTracker().start(frames[0], [Prompt("a", points)])
    given = follow(run, frames[1:])
    assert len(given) == 3
    for (prediction,) in given:
        assert isinstance(prediction.geometry, Points)
        assert prediction.geometry.xy.shape == (4, 2)
        assert not prediction.geometry.visible[3]
        assert 0 <= prediction.score <= 1


def test_points_of_the_wrong_kind_or_place_are_refused() -> None:
    image = clip(1)[0]
    tracker = LucasKanadeTracker()
    with pytest.raises(PromptInvalid, match="outside"):
        tracker.start(image, [Prompt("a", Points(np.array([[-5, 3], [200, 3]], np.float32)))])
    with pytest.raises(PromptInvalid, match="Box"):
        tracker.start(image, [Prompt("a", Box(np.array([0, 0, 5, 5], np.float32)))])
    run = tracker.start(image, [Prompt("a", spread(2, 160, 120))])
    with pytest.raises(ValueError, match="frame"):
        run.push(image[:-1])


def test_memory_is_bounded_by_a_snapshot_of_constant_size() -> None:
    images = clip(40)
    run = LucasKanadeTracker().start(images[0], [Prompt("a", spread(5, 160, 120))])
    follow(run, images[1:10])
    early = len(run.save())
    follow(run, images[10:])
    assert abs(len(run.save()) - early) < 16  # digits of the frame number


def test_no_drift_over_200_frames() -> None:
    base = texture(5, 260, 220)
    paths = [(6 * np.sin(t / 9), 5 * np.sin(t / 7 + 1), 0.05 * np.sin(t / 15)) for t in range(201)]
    points = spread(20, 140, 100, 4).xy + 60

    def warp(t: int) -> np.ndarray:
        dx, dy, angle = (paths[t][i] - paths[0][i] for i in range(3))
        matrix = cv2.getRotationMatrix2D((130, 110), np.degrees(-angle), 1.0)
        matrix[:, 2] += dx, dy
        return matrix

    run = None
    for t in range(201):
        image = cv2.warpAffine(base, warp(t), (260, 220), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        if run is None:
            run = LucasKanadeTracker().start(image, [Prompt("a", Points(points))])
        else:
            ((prediction,),) = run.push(image)
    truth = points @ warp(200)[:, :2].T + warp(200)[:, 2]
    assert isinstance(prediction.geometry, Points)
    error = np.hypot(*(prediction.geometry.xy - truth).T)
    assert prediction.geometry.visible.all()
    assert error.max() < 0.5


def covered_scene() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """A textured background at rest, a bar that sweeps over it: images, points (n, 2), covered (frames, n)."""
    background, bar = texture(7, 200, 120), texture(8, 30, 120)
    xs, ys = np.meshgrid(np.arange(70, 131, 15), np.arange(20, 101, 20))
    points = np.stack([xs.ravel(), ys.ravel()], 1).astype(np.float32)
    images, covered = [], []
    for t in range(60):
        left = 3 * t - 10
        image = background.copy()
        low, high = max(left, 0), min(left + 30, 200)
        if low < high:
            image[:, low:high] = bar[:, low - left : high - left]
        images.append(image)
        covered.append((points[:, 0] >= low) & (points[:, 0] < high))
    return images, points, np.array(covered)


def test_covered_points_are_hidden_and_come_back() -> None:
    images, points, covered = covered_scene()
    run = LucasKanadeTracker().start(images[0], [Prompt("a", Points(points))])
    given = follow(run, images[1:])
    seen = np.array([p.geometry.visible for (p,) in given])  # type: ignore[union-attr]
    xy = np.array([p.geometry.xy for (p,) in given])  # type: ignore[union-attr]
    assert (seen == ~covered[1:]).mean() > 0.85
    assert seen[-1].all()
    assert np.hypot(*(xy - points).transpose(2, 0, 1)).max() < 3.0


def test_points_that_leave_the_frame_are_hidden() -> None:
    base = texture(3, 400, 120)
    images = [np.ascontiguousarray(base[:, 4 * t : 4 * t + 160]) for t in range(40)]
    run = LucasKanadeTracker().start(images[0], [Prompt("a", Points(np.array([[60, 60], [80, 30]], np.float32)))])
    (last,) = follow(run, images[1:])[-1]
    assert not last.visible
    assert last.score == 0


def test_five_hundred_points() -> None:
    images = clip(4, 320, 240)
    points = spread(500, 320, 240)
    run = LucasKanadeTracker().start(images[0], [Prompt("a", points)])
    (last,) = follow(run, images[1:])[-1]
    assert isinstance(last.geometry, Points)
    error = np.hypot(*(last.geometry.xy - points.xy - (3 * 1.3, 3 * 0.6)).T)
    assert np.median(error) < 0.3
    assert (error[last.geometry.visible] < 2).mean() > 0.95


def closed(count: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, (i + 1) % count) for i in range(count))


def overlap(a: np.ndarray, b: np.ndarray, width: int, height: int) -> float:
    """Of two outlines (n, 2)."""
    one, other = np.zeros((2, height, width), np.uint8)
    for area, xy in ((one, a), (other, b)):
        cv2.fillPoly(area, [np.rint(np.clip(xy, -5 * width, 5 * width)).astype(np.int32)], 1)
    return float((one & other).sum() / max((one | other).sum(), 1))


def ride(frames: int, bar: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A kite whose corners see more of the ground than of it flies over the ground, and where there is a bar, behind that:
    pictures, and its outline (4, 2) in each."""
    ground, skin, front = texture(31, 360, 160), texture(32, 360, 160), texture(33, 60, 160)
    rest = np.array([[50, 42], [72, 80], [50, 122], [28, 80]], np.float32)
    images, outlines = [], []
    for t in range(frames):
        matrix = cv2.getRotationMatrix2D((50, 80), 0.5 * t, 1 - 0.001 * t)
        matrix[0, 2] += 3.0 * t
        truth = rest @ matrix[:, :2].T + matrix[:, 2]
        body = np.zeros((160, 360), np.uint8)
        cv2.fillPoly(body, [np.rint(truth * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
        image = np.where(body[..., None] > 0, cv2.warpAffine(skin, matrix, (360, 160)), ground)
        if bar:
            image[:, 130:190] = front
        images.append(image)
        outlines.append(truth)
    return images, outlines


@pytest.mark.parametrize("bar", [False, True])
def test_an_outline_goes_with_what_is_within_it(bar: bool) -> None:
    images, truth = ride(80, bar)
    run = LucasKanadeTracker().start(images[0], [Prompt("kite", Points(truth[0], edges=closed(4)))])
    given = follow(run, images[1:])
    shares = [overlap(p.geometry.xy, q, 360, 160) for (p,), q in zip(given, truth[1:], strict=True)]  # type: ignore[union-attr]
    shown = [p.visible for (p,) in given]
    if bar:
        assert not all(shown)
    else:
        assert all(shown) and min(shares) > 0.8
    assert shown[-1] and min(shares[-20:]) > 0.8
    for (prediction,) in given:  # hidden or not, it stays a kite
        assert isinstance(prediction.geometry, Points)
        size = cv2.contourArea(prediction.geometry.xy.astype(np.float32))
        assert size == pytest.approx(cv2.contourArea(truth[0].astype(np.float32)), rel=0.35)


@pytest.mark.parametrize(
    "corners",
    [
        [[4, 4], [5, 4], [4, 5]],
        [[10, 10], [60, 10], [30, 10]],
        [[-40, -40], [200, -40], [200, 160], [-40, 160]],
        [[-30, 20], [20, 20], [20, 60], [-30, 60]],
        [[20, 20], [90, 80], [90, 20], [20, 80]],
        [[50, 50]] * 3,
    ],
    ids=["tiny", "on one line", "all around the picture", "partly outside", "crossing itself", "one place"],
)
@pytest.mark.parametrize("flat", [False, True])
def test_any_outline_is_taken(corners: list[list[int]], flat: bool) -> None:
    images = [np.full_like(i, 90) for i in clip(6)] if flat else clip(6)
    drawn = Points(np.array(corners, np.float32), edges=closed(len(corners)))
    if not ((drawn.xy >= 0) & (drawn.xy < (160, 120))).all(1).any():
        drawn = Points(np.concatenate([drawn.xy, [[80, 60]]]).astype(np.float32), edges=closed(len(corners) + 1))
    run = LucasKanadeTracker().start(images[0], [Prompt("a", drawn), Prompt("b", spread(2, 160, 120))])
    for first, second in follow(run, images[1:]):
        assert isinstance(first.geometry, Points) and isinstance(second.geometry, Points)
        assert first.geometry.xy.shape == drawn.xy.shape and np.isfinite(first.geometry.xy).all()
        assert second.geometry.xy.shape == (2, 2)


def test_an_outline_whose_look_changes_does_not_grow() -> None:
    """Nothing moves; patches are taken anew again and again, and what they say of turn and size must not add up."""
    looks = [texture(50 + i, 120, 90).astype(np.float32) for i in range(22)]
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    drawn = (np.array([60, 45]) + 30 * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)
    images = [((1 - f) * looks[k] + f * looks[k + 1]).astype(np.uint8) for k in range(21) for f in np.arange(16) / 16]
    run = LucasKanadeTracker().start(images[0], [Prompt("a", Points(drawn, edges=closed(8)))])
    sizes = np.array([cv2.contourArea(p.geometry.xy) for (p,) in follow(run, images[1:])])  # type: ignore[union-attr]
    assert sizes.max() < 2.5 * cv2.contourArea(drawn)
    assert sizes.min() > cv2.contourArea(drawn) / 2.5


@pytest.mark.parametrize("seen", [2, 1, 0])
def test_a_single_patch_does_not_say_how_large_an_outline_is_nor_that_it_is_there(seen: int) -> None:
    image = texture(60, 160, 120)
    drawn = np.array([[30, 20], [120, 25], [110, 95], [35, 90]], np.float32)
    run = LucasKanadeTracker().start(image, [Prompt("a", Points(drawn, edges=closed(4)))])
    field, shape = run._field, run._shapes[0]
    field.seen[seen:] = False
    field.affine[:1] = 0.5 * np.eye(2)
    field.xy[:seen] += (4, 3)
    run._settle(shape)
    held = field.xy[:4]
    assert cv2.contourArea(held.astype(np.float32)) == pytest.approx(cv2.contourArea(drawn), rel=0.1)
    if seen < 2:
        assert not field.seen.any() and np.abs(held - drawn).max() < 1
    else:
        assert field.seen[:2].all() and np.abs(held - drawn - (4, 3)).max() < 1


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_flat_thing_is_followed_by_its_rim_and_as_surely(noise: float) -> None:
    rng = np.random.default_rng(0)
    scores, errors = [], []
    run = None
    for t in range(40):
        drawn = np.array([[40, 30], [90, 30], [90, 70], [40, 70]], np.float32) + np.array([0.8, 0.4]) * t
        image = np.full((120, 160, 3), 70.0)
        cv2.fillPoly(image, [np.rint(drawn * 16).astype(np.int32)], (180, 160, 90), cv2.LINE_AA, 4)
        image = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        if run is None:
            run = LucasKanadeTracker().start(image, [Prompt("a", Points(drawn, edges=closed(4)))])
            continue
        ((found,),) = run.push(image)
        assert isinstance(found.geometry, Points)
        scores.append(found.score)
        errors.append(float(np.hypot(*(found.geometry.xy - drawn).T).max()))
    assert min(scores) > 0.7 and max(errors) < 2.0


def test_many_outlines_share_what_carries_them() -> None:
    image = texture(40, 640, 480)
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    prompts = [
        Prompt(str(i), Points((rng.uniform(60, 420, 2) + 40 * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32), edges=closed(6)))
        for i in range(60)
    ]  # fmt: skip
    alone, all_ = (len(LucasKanadeTracker().start(image, p).save()) for p in (prompts[:1], prompts))
    free = len(LucasKanadeTracker().start(image, [Prompt("a", spread(60 * 14, 640, 480))]).save())
    assert all_ < 1.1 * free and all_ > alone


def test_a_polygon_keeps_its_shape_while_half_of_it_is_covered() -> None:
    ground, skin = texture(11, 320, 200), texture(12, 320, 200)
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rest = np.stack([60 + 34 * np.cos(angle), 100 + 40 * np.sin(angle)], 1).astype(np.float32)
    body = np.zeros((200, 320), np.uint8)
    cv2.fillPoly(body, [np.rint(60 + (rest - 60) * 1.0).astype(np.int32)], 1)
    body = cv2.dilate(body, np.ones((9, 9), np.uint8))
    run = None
    seen_share, errors = [], []
    for t in range(50):
        matrix = cv2.getRotationMatrix2D((60, 100), -0.4 * t, 1 + 0.002 * t)
        matrix[0, 2] += 2.5 * t
        skin_now, body_now = (cv2.warpAffine(x, matrix, (320, 200)) for x in (skin, body))
        image = np.where(body_now[..., None] > 0, skin_now, ground)
        image[:, 120:165] = ground[:, 20:65]
        truth = rest @ matrix[:, :2].T + matrix[:, 2]
        if run is None:
            edges = tuple((i, (i + 1) % 16) for i in range(16))
            run = LucasKanadeTracker().start(image, [Prompt("a", Points(rest, edges=edges))])
            continue
        ((prediction,),) = run.push(image)
        assert isinstance(prediction.geometry, Points)
        errors.append(np.hypot(*(prediction.geometry.xy - truth).T).mean())
        seen_share.append(prediction.geometry.visible.mean())
    assert min(seen_share) < 0.8
    assert max(errors) < 0.04 * 80
    assert errors[-1] < 2.0
