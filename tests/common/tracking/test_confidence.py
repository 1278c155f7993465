"""The confidence meter: high while the geometry is on its object, low when it is not, whatever the geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.confidence import ConfidenceMeter
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

HEIGHT, WIDTH = 240, 320


def texture(seed: int, height: int, width: int, grain: int) -> Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 235, (-(-height // grain), -(-width // grain), 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


BACKGROUND = texture(1, HEIGHT + 80, WIDTH + 80, 9)


def centre(n: int) -> tuple[float, float]:
    return 90 + 2.2 * n, 110 + 14 * np.sin(n / 7)


def picture(n: int, size: tuple[int, int] = (56, 44), seed: int = 2, hidden: bool = False, grain: int = 5) -> Image:
    """Frame n: an object on its path over a slowly moving background, behind a wall when hidden."""
    shift = n // 2
    image = BACKGROUND[shift : shift + HEIGHT, shift : shift + WIDTH].copy()
    (x, y), (w, h) = centre(n), size
    matrix = np.array([[1, 0, x - (w - 1) / 2], [0, 1, y - (h - 1) / 2]])
    skin = np.full((h, w, 3), 90, np.uint8) if grain == 0 else texture(seed, h, w, grain)
    image = cv2.warpAffine(skin, matrix, (WIDTH, HEIGHT), image, borderMode=cv2.BORDER_TRANSPARENT)
    if hidden:
        image[60:180, 60:300] = texture(9, 120, 240, 11)
    return np.ascontiguousarray(image)


def box(x: float, y: float, w: float = 56, h: float = 44) -> Box:
    return Box(np.array([x - w / 2 + 0.5, y - h / 2 + 0.5, x + w / 2 + 0.5, y + h / 2 + 0.5]))


def oriented(x: float, y: float) -> OrientedBox:
    return OrientedBox(np.array([x + 0.5, y + 0.5, 56, 44]), np.pi)


def mask(x: float, y: float) -> Mask:
    array = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(array, (round(x), round(y)), (26, 20), 0, 0, 360, 1, -1)
    return Mask.from_array(array)


def polygon(x: float, y: float) -> Points:
    corners = np.array([[-24, -18], [24, -18], [20, 18], [0, 10], [-24, 16]])
    return Points(corners + np.array([x, y]), edges=((0, 1), (1, 2), (2, 3), (3, 4), (4, 0)))


def point(x: float, y: float) -> Points:
    return Points(np.array([[x, y]]))


SHAPES = [box, oriented, mask, polygon, point]


def play(shape: Callable[..., Geometry], places: Callable[[int], tuple[float, float]], frames: int = 40) -> list[float]:
    meter = ConfidenceMeter()
    meter.start(picture(0), [Prompt("it", shape(*centre(0)))])
    return [
        meter.update(picture(n), [Prediction("it", shape(*places(n)), 1.0, True)])[0].score for n in range(1, frames)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_right_stays_sure(shape: Callable[..., Geometry]) -> None:
    assert min(play(shape, centre)) > 0.75


@pytest.mark.parametrize("shape", SHAPES)
def test_left_behind_becomes_unsure(shape: Callable[..., Geometry]) -> None:
    """The tracker stops where it was after ten frames: half an object later the score is low, and it stays low."""
    scores = play(shape, lambda n: centre(min(n, 10)))
    assert min(scores[:9]) > 0.75
    assert max(scores[25:]) < 0.4


@pytest.mark.parametrize("shape", SHAPES)
def test_sliding_off_slowly_lowers_the_score_with_the_overlap(shape: Callable[..., Geometry]) -> None:
    """Half a pixel a frame: too little to see in any single step."""
    scores = play(shape, lambda n: (centre(n)[0] - 0.5 * n, centre(n)[1] - 0.25 * n), 60)
    assert scores[0] > 0.75
    assert scores[3] > 0.6
    assert scores[-1] < 0.45
    assert np.mean(scores[:10]) > np.mean(scores[20:30]) > np.mean(scores[45:])


def turning(n: int, hidden: bool = False) -> Points:
    """A polygon that turns by two degrees a frame; of its vertices others are seen in every frame."""
    c, s = np.cos(np.radians(2 * n)), np.sin(np.radians(2 * n))
    rest = np.array([[-24, -18], [24, -18], [20, 18], [-24, 16]])
    seen = np.zeros(4, bool) if hidden else (np.arange(4) + n) % 3 > 0
    return Points(rest @ np.array([[c, s], [-s, c]]) + centre(n), seen, ((0, 1), (1, 2), (2, 3), (3, 0)))


def test_a_polygon_that_turns_and_whose_vertices_come_and_go_stays_sure() -> None:
    meter, scores = ConfidenceMeter(), []
    for n in range(60):
        shift = n // 2
        image = BACKGROUND[shift : shift + HEIGHT, shift : shift + WIDTH].copy()
        (x, y), turn = centre(n), cv2.getRotationMatrix2D((27.5, 21.5), -2 * n, 1)
        turn[:, 2] += np.array([x, y]) - (27.5, 21.5)
        image = cv2.warpAffine(texture(2, 44, 56, 5), turn, (WIDTH, HEIGHT), image, borderMode=cv2.BORDER_TRANSPARENT)
        if n == 0:
            meter.start(image, [Prompt("it", turning(0))])
        else:
            scores.append(meter.update(image, [Prediction("it", turning(n), 1.0, True)])[0].score)
        if n == 30:
            meter = ConfidenceMeter.load(meter.save())
    assert min(scores) > 0.7


def test_a_snapshot_that_knew_polygons_otherwise_is_refused() -> None:
    for shape in (polygon, box):
        meter = ConfidenceMeter()
        meter.start(picture(0), [Prompt("it", shape(*centre(0)))])
        tree = unpack(meter.save())
        del tree["states"]["it"]["upright"]
        if shape is polygon:
            with pytest.raises(ValueError, match="earlier version"):
                ConfidenceMeter.load(pack(tree))
        else:
            ConfidenceMeter.load(pack(tree))


def test_a_jump_is_seen_at_once() -> None:
    scores = play(box, lambda n: centre(n) if n < 20 else (centre(n)[0] + 60, centre(n)[1]))
    assert min(scores[:18]) > 0.75
    assert max(scores[19:24]) < 0.35


def test_a_wrong_size_lowers_the_score() -> None:
    meter = ConfidenceMeter()
    meter.start(picture(0), [Prompt("it", box(*centre(0)))])
    for n in range(1, 40):
        grown = box(*centre(n), 56 * 1.02**n, 44 * 1.02**n)
        (p,) = meter.update(picture(n), [Prediction("it", grown, 1.0, True)])
    assert p.score < 0.55


@pytest.mark.parametrize("shape", [box, mask, polygon])
def test_hidden_is_low_and_back_is_high(shape: Callable[..., Geometry]) -> None:
    meter = ConfidenceMeter()
    meter.start(picture(0), [Prompt("it", shape(*centre(0)))])
    scores = []
    for n in range(1, 40):
        image = picture(n, hidden=15 <= n < 25)
        scores += [p.score for p in meter.update(image, [Prediction("it", shape(*centre(n)), 1.0, True)])]
    assert min(scores[:13]) > 0.75
    assert max(scores[15:23]) < 0.4
    assert min(scores[30:]) > 0.6


def test_without_texture_the_tracker_is_believed() -> None:
    meter = ConfidenceMeter()
    flat = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    meter.start(flat, [Prompt("it", box(100, 100))])
    for _ in range(5):
        sure, unsure = (meter.update(flat, [Prediction("it", box(100, 100), s, True)])[0].score for s in (1.0, 0.3))
    assert sure > 0.75
    assert sure > unsure > 0.1


@pytest.mark.parametrize("side", [3, 6, 12])
def test_tiny_objects(side: int) -> None:
    meter = ConfidenceMeter()
    meter.start(picture(0, (side, side), grain=2), [Prompt("it", box(*centre(0), side, side))])
    scores = []
    for n in range(1, 20):
        tracked = Prediction("it", box(*centre(n), side, side), 1.0, True)
        scores += [p.score for p in meter.update(picture(n, (side, side), grain=2), [tracked])]
    assert np.median(scores) > 0.5


def awkward() -> Iterator[Geometry | None]:
    yield None
    yield box(-200, -200)
    yield box(0, 0)
    yield box(WIDTH, HEIGHT, 2 * WIDTH, 2 * HEIGHT)
    yield box(50, 50, 0, 0)
    yield box(5000, 5000, 9000, 9000)
    yield OrientedBox(np.array([100, 100, 0, 80]), 9.0)
    yield Mask.from_array(np.zeros((HEIGHT, WIDTH)))
    yield Mask.from_array(np.ones((HEIGHT, WIDTH)))
    yield Mask.from_array(np.eye(HEIGHT, WIDTH))
    yield Points(np.array([[-50, -50], [400, 300]]), np.array([False, False]))
    yield Points(np.full((40, 2), 30))


@pytest.mark.parametrize("geometry", list(awkward()))
def test_any_geometry_gets_a_finite_score(geometry: Geometry | None) -> None:
    meter = ConfidenceMeter()
    start = geometry if geometry is not None else box(100, 100)
    meter.start(picture(0), [Prompt("it", start), Prompt("other", box(*centre(0)))])
    good = box(100, 100) if isinstance(start, Box) else start
    for n, shown in enumerate((geometry, good, geometry, geometry), 1):
        p, other = meter.update(
            picture(n), [Prediction("it", shown, 0.9, True), Prediction("other", box(*centre(n)), 1.0, True)]
        )
        assert 0 <= p.score <= 1
        assert p.geometry == shown
        assert p.visible
        if shown is None or (isinstance(shown, Mask) and shown.area == 0):
            assert p.score == 0
        assert other.score > 0.6  # nobody's trouble is anybody else's


def test_found_again_after_being_lost() -> None:
    meter = ConfidenceMeter()
    meter.start(picture(0), [Prompt("it", box(*centre(0)))])
    scores = []
    for n in range(1, 30):
        geometry = None if 10 <= n < 15 else box(*centre(n))
        scores += [p.score for p in meter.update(picture(n), [Prediction("it", geometry, 1.0, True)])]
    assert scores[9:14] == [0.0] * 5
    assert min(scores[16:]) > 0.7


@pytest.mark.parametrize("saved", [False, True])
def test_an_object_drawn_half_hidden_is_known_by_its_other_key_figure(saved: bool) -> None:
    def behind(n: int) -> Image:
        image, edge = picture(n), int(centre(0)[0] - 4 + 5 * n)
        image[60:180, edge : edge + 60] = texture(9, 120, 60, 11)[:, : WIDTH - edge]
        return image

    def scores(*exemplars: Exemplar) -> list[float]:
        meter = ConfidenceMeter()
        meter.start(behind(0), [Prompt("it", box(*centre(0)))], exemplars)
        meter = ConfidenceMeter.load(meter.save()) if saved else meter
        return [meter.update(behind(n), [Prediction("it", box(*centre(n)), 1.0, True)])[0].score for n in range(1, 30)]

    seen_whole = Exemplar(picture(40), [Prompt("it", box(*centre(40))), Prompt("another", box(20, 20))])
    assert max(scores()[20:]) < 0.5
    assert min(scores(seen_whole)[20:]) > 0.6


def objects(n: int) -> list[Prediction]:
    shapes = {"box": box(*centre(n)), "mask": mask(*centre(n)), "points": polygon(*centre(min(n, 8)))}
    return [Prediction(k, None if (k, n) == ("box", 9) else g, 0.9, True) for k, g in shapes.items()]


@pytest.mark.parametrize("cut", [0, 5, 9, 12])
def test_saved_and_loaded_goes_on_exactly_the_same(cut: int) -> None:
    meter = ConfidenceMeter()
    prompts = [Prompt(p.key, p.geometry) for p in objects(0) if p.geometry is not None]
    meter.start(picture(0), prompts)
    for n in range(1, cut + 1):
        meter.update(picture(n), objects(n))
    copy = ConfidenceMeter.load(meter.save())
    assert copy.save() == meter.save()
    for n in range(cut + 1, 18):
        assert copy.update(picture(n), objects(n)) == meter.update(picture(n), objects(n))
    assert copy.save() == meter.save()


def test_a_meter_saved_before_exemplars_counted_goes_on() -> None:
    meter = ConfidenceMeter()
    meter.start(picture(0), [Prompt("it", box(*centre(0)))])
    tree = unpack(meter.save())
    tree["states"]["it"]["key_look"] = tree["states"]["it"].pop("key_looks")[0]
    old = ConfidenceMeter.load(pack(tree))
    assert old.save() == meter.save()


def test_memory_does_not_grow() -> None:
    meter = ConfidenceMeter()
    meter.start(picture(0), [Prompt("it", box(*centre(0)))])
    sizes = set()
    for n in range(1, 30):
        meter.update(picture(n), [Prediction("it", box(*centre(n)), 1.0, True)])
        sizes.add(len(meter.save()) // 64)
    assert len(sizes) <= 2


def test_the_pictures_are_not_changed_and_their_size_does_not_matter_much() -> None:
    meters = ConfidenceMeter(), ConfidenceMeter()
    big = [cv2.resize(picture(n), None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC) for n in range(12)]
    meters[0].start(picture(0), [Prompt("it", box(*centre(0)))])
    meters[1].start(big[0], [Prompt("it", Box(box(*centre(0)).xyxy * 6))])
    for n in range(1, 12):
        stop = box(*centre(min(n, 4)))
        small = meters[0].update(picture(n), [Prediction("it", stop, 1.0, True)])[0].score
        before = big[n].copy()
        large = meters[1].update(big[n], [Prediction("it", Box(stop.xyxy * 6), 1.0, True)])[0].score
        assert np.array_equal(before, big[n])
        assert large == pytest.approx(small, abs=0.15)


def test_misuse_is_refused() -> None:
    meter = ConfidenceMeter()
    with pytest.raises(ValueError, match="size of the first"):
        meter.update(picture(0), [])
    meter.start(picture(0), [Prompt("it", box(100, 100))])
    assert meter.update(picture(1), []) == []
    with pytest.raises(ValueError, match="no object 'other'"):
        meter.update(picture(1), [Prediction("other", box(100, 100), 1.0, True)])
    with pytest.raises(ValueError, match="size of the first"):
        meter.update(picture(1)[:100], [])
