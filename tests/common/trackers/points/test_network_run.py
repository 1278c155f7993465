"""What every point network gets for free: questions from prompts and exemplars, looks that compete, weights on demand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from common.errors import PromptInvalid, WeightsMissing
from common.geometry.types import Points
from common.trackers import registry
from common.trackers.points.learned import LEARNED
from common.trackers.points.network_run import EXEMPLARS, Found, NetworkRun, queries_of, shapes_of
from common.tracking.contract import Exemplar, Prompt
from common.weights import store
from common.weights.entries import catalogue
from common.weights.options import EngineOptions
from tests.common.trackers.points import test_cotracker, test_pips, test_tapir, test_tapnext
from tests.common.trackers.points.networks import one_thread
from tests.contract.clips import clip

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SMALL = {
    "bootstapir-online": lambda: test_tapir.small(True),
    "bootstapir": lambda: test_tapir.small(False),
    "cotracker3-online": lambda: test_cotracker.small("cotracker3-online"),
    "cotracker3-offline": lambda: test_cotracker.small("cotracker3-offline"),
    "tapnextpp": lambda: test_tapnext.small(32),
    "pips": lambda: test_pips.small("pips"),
    "pips2": lambda: test_pips.small("pips2"),
}


def some(xy: list[tuple[float, float]], visible: list[bool] | None = None) -> Points:
    return Points(np.array(xy, np.float32), np.array(visible if visible is not None else [], bool))


# -- questions ----------------------------------------------------------------------------------------------------------


def test_each_visible_point_is_asked_for_on_each_picture():
    image = clip(5, 8)[0]
    prompts = [
        Prompt("a", some([(10, 10), (20, 20), (30, 30)], [True, False, True])),
        Prompt("b", some([(40, 40), (400, 40)])),
    ]
    exemplars = [
        Exemplar(image, [Prompt("a", some([(11, 11), (21, 21), (500, 1)])), Prompt("unknown", some([(1, 1)]))]),
        Exemplar(image, [Prompt("b", some([(1, 1)]))]),  # of another number of points: not the same shape
    ]
    _, asked = queries_of(image, prompts, shapes_of(image, prompts, "T"), exemplars)
    assert asked.picture.tolist() == [0, 0, 0, 1, 1]
    assert asked.point.tolist() == [0, 2, 3, 0, 1]
    assert asked.group.tolist() == [0, 0, 1, 0, 0]
    assert asked.xy.tolist() == [[10, 10], [30, 30], [40, 40], [11, 11], [21, 21]]
    assert asked.start.tolist() == [[10, 10], [30, 30], [40, 40], [10, 10], [20, 20]]


def test_exemplars_are_a_budget():
    image = clip(5, 8)[0]
    prompts = [Prompt("a", some([(10, 10)]))]
    many = [Exemplar(image, [Prompt("a", some([(10 + i, 10)]))]) for i in range(9)]
    images, asked = queries_of(image, prompts, shapes_of(image, prompts, "T"), many)
    assert len(images) == 1 + EXEMPLARS
    assert asked.xy[1:, 0].tolist() == [10, 11, 12], "the nearest come first"


def test_an_object_that_is_all_hidden_is_asked_for_all_the_same():
    image = clip(5, 8)[0]
    prompts = [Prompt("a", some([(10, 10), (20, 20)], [False, False]))]
    _, asked = queries_of(image, prompts, shapes_of(image, prompts, "T"), [])
    assert asked.point.tolist() == [0, 1]


# -- answers ------------------------------------------------------------------------------------------------------------


def test_the_surest_look_wins_and_the_first_of_equals():
    image = np.zeros((100, 100, 3), np.uint8)
    prompts = [Prompt("a", some([(10, 10), (20, 20), (30, 30)]))]
    shapes = shapes_of(image, prompts, "T")
    run = NetworkRun("t", None, shapes, np.array([0, 1, 0, 1]), (100, 100), skip=0)  # type: ignore[arg-type]
    xy = np.array([(1, 1), (2, 2), (3, 3), (4, 4)], float)
    ((prediction,),) = run.take([Found(xy, np.array([0.6, 0.9, 0.6, 0.95]))])
    assert isinstance(prediction.geometry, Points)
    assert prediction.geometry.xy[:2].tolist() == [[1, 1], [4, 4]]
    assert prediction.geometry.visible.tolist() == [True, True, False], "the third was never asked for"
    assert 0.5 < prediction.score < 1


def test_what_is_no_number_is_no_answer():
    image = np.zeros((100, 100, 3), np.uint8)
    shapes = shapes_of(image, [Prompt("a", some([(10, 10), (20, 20)]))], "T")
    run = NetworkRun("t", None, shapes, np.array([0, 1, 1]), (100, 100), skip=0)  # type: ignore[arg-type]
    xy = np.array([(np.nan, 50.0), (np.inf, 5.0), (60.0, 60.0)])
    ((prediction,),) = run.take([Found(xy, np.array([0.9, np.nan, 0.7]))])
    assert isinstance(prediction.geometry, Points)
    assert prediction.geometry.visible.tolist() == [False, True]
    assert prediction.geometry.xy[1].tolist() == [60, 60]


def test_points_beyond_the_edge_are_not_visible():
    image = np.zeros((100, 100, 3), np.uint8)
    shapes = shapes_of(image, [Prompt("a", some([(10, 10), (20, 20)]))], "T")
    run = NetworkRun("t", None, shapes, np.array([0, 1]), (100, 100), skip=0)  # type: ignore[arg-type]
    ((prediction,),) = run.take([Found(np.array([(50.0, 50.0), (101.0, 50.0)]), np.ones(2))])
    assert isinstance(prediction.geometry, Points)
    assert prediction.visible and prediction.geometry.visible.tolist() == [True, False]


# -- networks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_hundreds_of_points_with_corrections(name):
    """One request with 300 points and polygons, four corrections of it, three frames: all come back, topology kept."""
    images = clip(3, 10, 96, 72, 2)
    rng = np.random.default_rng(0)
    loose = Points(rng.uniform((0, 0), (95, 71), (280, 2)).astype(np.float32))
    outline = Points(
        rng.uniform((20, 20), (60, 50), (20, 2)).astype(np.float32), edges=tuple((i, (i + 1) % 20) for i in range(20))
    )
    prompts = [Prompt("loose", loose), Prompt("outline", outline)]
    moved = [
        Prompt("loose", Points(np.clip(loose.xy + 2, 0, 71))),
        Prompt("outline", Points(outline.xy + 2, edges=outline.edges)),
    ]
    run = SMALL[name]().start(images[0], prompts, [Exemplar(images[i], moved) for i in (6, 7, 8, 9)])
    given = [frame for image in images[1:4] for frame in run.push(image)] + run.flush()
    assert len(given) == 3
    for frame in given:
        assert [p.key for p in frame] == ["loose", "outline"]
        assert [len(p.geometry.xy) for p in frame] == [280, 20]
        assert frame[1].geometry.edges == outline.edges


@pytest.mark.parametrize("name", SMALL)
def test_a_correction_changes_what_follows(name):
    """A look from another picture takes part (PIPs++ has no use for one)."""
    images = clip(3, 10, 96, 72, 2)
    prompts = [Prompt("a", some([(40, 30), (50, 40)]))]
    exemplar = Exemplar(images[9], [Prompt("a", some([(70, 20), (10, 60)]))])
    given = []
    for exemplars in ([], [exemplar]):
        run = SMALL[name]().start(images[0], prompts, exemplars)
        given.append([frame for image in images[1:9] for frame in run.push(image)] + run.flush())
    assert (given[0] == given[1]) == (name == "pips2")


@pytest.mark.parametrize("name", ["bootstapir-online", "bootstapir", "pips"])
def test_points_do_not_influence_each_other(name):
    """Alone or in a crowd of 70, in chunks: the same track."""
    images = clip(3, 10, 96, 72, 2)
    crowd = np.random.default_rng(0).uniform((5, 5), (90, 65), (70, 2)).astype(np.float32)
    tracks = []
    for points in (crowd, crowd[66:67]):
        run = SMALL[name]().start(images[0], [Prompt("a", Points(points))])
        given = [frame for image in images[1:] for frame in run.push(image)] + run.flush()
        tracks.append(np.stack([frame[0].geometry.xy[-4 if len(points) > 1 else 0] for frame in given]))
    np.testing.assert_allclose(*tracks, atol=0.02)


def test_causal_frames_may_come_in_any_portions():
    """TAPIR: one by one or three at a time, the state is the same."""
    from common.networks.tapir.network import Config, Tapir
    from common.networks.tapir.streams import CausalStream
    from tests.common.trackers.points.networks import seeded

    network = Tapir(Config(extra_convs=False, blocks=2, width=16, channels=(8, 8, 8, 8), initial=(32, 32)))
    seeded(network)
    frames = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    with torch.inference_mode():
        for portions in ([1] * 7, [1, 3, 3], [7]):
            stream = CausalStream(network, (32, 32))
            stream.add(stream.look(stream.encode(frames[:1]), torch.tensor([[10.0, 12.0], [20.0, 9.0]])))
            found.append(torch.cat([stream.push(stream.encode(part)).xy for part in frames.split(portions)]))
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[2], found[0], atol=1e-3, rtol=0)


def test_a_snapshot_of_another_tracker_is_refused():
    images = clip(5, 8)
    state = SMALL["pips"]().start(images[0], [Prompt("a", some([(40, 30)]))]).save()
    with pytest.raises(ValueError, match="not a snapshot"):
        SMALL["bootstapir-online"]().load(state)


# -- weights and licences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bootstapir-online", "cotracker3-online", "tapnextpp", "pips", "pips2"])
def test_missing_weights_say_how_to_get_them(name, monkeypatch, tmp_path):
    monkeypatch.setenv(store.FOLDER, str(tmp_path))
    monkeypatch.delenv(store.MIRROR, raising=False)
    monkeypatch.setenv(store.OFFLINE, "1")
    tracker = registry.make(name)
    with pytest.raises(PromptInvalid):
        tracker.start(clip(5, 8)[0], [Prompt("a", some([(500, 500)]))])
    with pytest.raises(WeightsMissing, match="models download " + str(tracker.card.weights)):
        tracker.start(clip(5, 8)[0], [Prompt("a", some([(40, 30)]))])


def test_the_first_may_be_used_commercially_and_cards_tell_the_truth():
    for name in LEARNED:
        card = registry.make(name).card
        if card.weights is None:
            continue  # the suite brings them along
        weights = catalogue().find(str(card.weights))
        assert card.weights_licence == weights.weights_licence
        assert ("non-commercial" in card.title) == weights.non_commercial
    first = catalogue().find(str(registry.make(next(iter(LEARNED))).card.weights))
    assert first.weights_licence == "Apache-2.0" and not first.non_commercial


def test_cards_need_no_torch():
    """Whoever lists the trackers does not wait for torch."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from common.trackers import registry\nfrom common.trackers.points.learned import LEARNED\n"
        "print(*(registry.make(name).card.title for name in LEARNED), sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("|") == len(LEARNED) - 1, done.stderr


@pytest.mark.slow
def test_the_published_size_runs():
    """The learned default as it is used, with seeded weights, on two frames, resumed between them."""
    images = clip(3, 10, 96, 72, 2)
    tracker = registry.make("bootstapir-online", EngineOptions(weights="seeded", device="cpu"))
    run = tracker.start(images[0], [Prompt("a", some([(40, 30), (50, 40)]))])
    (first,) = run.push(images[1])
    again = tracker.load(run.save())
    assert run.push(images[2]) == again.push(images[2])
    assert first[0].key == "a" and first[0].geometry is not None
