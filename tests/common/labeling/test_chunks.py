"""A video in chunks on several workers: the same boxes as from one, and one identity across the seams."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from apps.cli import label_job
from apps.cli.job import JOURNAL
from apps.cli.label_job import NOTHING, Spread, label_one
from apps.cli.progress import Reporter
from common.association.contract import Tracks
from common.association.offline.repair import RepairSettings
from common.cluster.contract import Outcome
from common.cluster.local import LocalExecutor
from common.geometry import codec
from common.geometry.measures import box_iou
from common.geometry.types import Mask
from common.labeling import chunks
from common.labeling.candidates import Candidate
from common.labeling.chosen import Rule
from common.labeling.chunks import cut, label_in_chunks
from common.labeling.plan import Plan, make_plan
from common.labeling.run import LabelledVideo, fingerprint, label_video
from common.labeling.selection import Choice
from common.labeling.stitch import Stretch, bridge, matched, stitched
from common.prediction.journal import Journal
from common.prediction.pipeline import Part
from common.prediction.results import Results
from common.weights.options import DEFAULT
from tests.common.labeling.toys import CLASSES, Thing, ToyVideo

THINGS = (
    Thing("d1", 0, (20, 20), (1.6, 0.5)),
    Thing("c1", 1, (30, 100), (1.2, -0.4)),
    Thing("c2", 1, (190, 20), (-0.8, 0.9)),
    Thing("d3", 0, (-24, 60), (2.0, 0.2), 22),  # comes in at the seam
)
VIDEO = ToyVideo(56, seed=1, things=THINGS)


def opened(_: str) -> ToyVideo:
    return VIDEO


class Together:
    """An executor with a thread for each task: all of them at once."""

    def run(self, make, tasks, *, stop=None, on_progress=None):
        told, report = stop or threading.Event(), on_progress or (lambda *_: None)
        with ThreadPoolExecutor(4) as pool:

            def work(task):
                return Outcome(task.key, make()(task.payload, told, lambda a, b: report(task.key, a, b)))

            yield from pool.map(work, list(tasks))


@pytest.fixture(scope="module")
def plan() -> Plan:
    quick = {"shapes": False, "side": 16, "proposals": 40, "flip": False, "per_octave": 2}
    exemplar = Candidate("exemplar", "exemplar", "Like the examples", settings=quick)
    choice = Choice(CLASSES, (exemplar,), ((0, 1),), tuple(Rule(n, (0,), (0.5,)) for n in range(2)), (), "by hand")
    return make_plan(VIDEO.support((0,)), choice, every=2, looks="none")


def frames(journal: Journal, plan: Plan) -> dict[int, dict[str, np.ndarray]]:
    video = LabelledVideo(Results(journal, plan.settings(), VIDEO.info), VIDEO.support((0,)).frames(VIDEO))
    return {frame: {one.key: one.box.xyxy for one in found} for frame, found in video.frames()}


def chunked(plan: Plan, folder: Path, executor, **more) -> tuple[Journal, bool]:
    journal = Journal(folder / "whole.sqlite", "job")
    done = label_in_chunks(
        Path("toy"), VIDEO, plan, VIDEO.support((0,)), journal, executor, 2,
        folder=folder, fingerprint="job", overlap=16, least=24, opened=opened, **more,
    )  # fmt: skip
    return journal, done


def test_chunks_cover_the_video_and_share_what_is_asked():
    for count, parts, every in ((1000, 3, 1), (1000, 4, 3), (150, 4, 1), (5, 2, 1), (5003, 7, 4)):
        found = cut(count, parts, every)
        assert (found[0].start, found[-1].stop) == (0, count) and len(found) <= parts
        for a, b in pairwise(found):
            assert a.stop - b.start == 40 and b.start % (4 * every) == 0


def test_the_same_as_one_worker_with_identities_kept_across_the_seam(plan: Plan, tmp_path: Path) -> None:
    """Stopped in the second chunk, and gone on with by workers that work at once."""
    stop, through = threading.Event(), []
    journal, done = chunked(plan, tmp_path, LocalExecutor(), stop=stop, on_frame=lambda n: n >= 28 and stop.set())
    assert not done and not journal.done and list(tmp_path.glob("*chunk*"))
    journal.__exit__(None, None, None)
    journal, done = chunked(plan, tmp_path, Together(), on_frame=through.append)
    assert done and max(through) == VIDEO.info.frames, "the chunk that was through before counts"
    assert not list(tmp_path.glob("*chunk*")), "the chunks' own journals are gone"
    parts = frames(journal, plan)
    with Journal(tmp_path / "one.sqlite", "job") as alone:
        assert label_video(VIDEO, plan, VIDEO.support((0,)), alone)
        one = frames(alone, plan)
    seam = (cut(56, 2, 2, 16, 24)[1].start + cut(56, 2, 2, 16, 24)[0].stop) // 2
    smoothed = math.ceil(3 * RepairSettings().smooth_size_s * VIDEO.info.fps)
    assert seam - smoothed >= 8
    keys: dict[str, set[str]] = {}
    for frame in range(VIDEO.info.frames):
        mine, theirs = parts.get(frame, {}), one.get(frame, {})
        if frame < seam - smoothed:  # nothing there knows of the seam
            assert {k: v.tolist() for k, v in mine.items()} == {k: v.tolist() for k, v in theirs.items()}
        elif frame < seam - 8:  # and next to nothing here
            assert mine.keys() == theirs.keys()
            assert all(mine[key] == pytest.approx(theirs[key], abs=0.01) for key in mine)
        boxes = np.array(list(mine.values())).reshape(-1, 4)
        for box in theirs.values():
            assert box_iou(box[None], boxes).max() > 0.85, frame
        for thing, box in VIDEO.boxes(frame, 0.8):
            overlaps = box_iou(box[None], boxes)[0]
            if overlaps.max(initial=0) > 0.5:
                keys.setdefault(thing.key, set()).add(list(mine)[int(overlaps.argmax())])
    assert {key: len(own) for key, own in keys.items()} == dict.fromkeys(("d1", "c1", "c2", "d3"), 1), keys
    assert keys["d1"] == {"d1"}, "the person's object goes on in a chunk that has no label of theirs"


def rows(*objects: tuple[int, float, range]) -> Tracks:
    """(identity, left side, frames) of 20 pixel boxes."""
    made = [(f, i, [x, 0, x + 20, 20]) for i, x, span in objects for f in span]
    n = len(made)
    columns = [np.array([m[k] for m in made], np.int64) for k in (0, 1)]
    boxes = np.array([m[2] for m in made], np.float32).reshape(-1, 4)
    return Tracks(*columns, boxes, np.ones(n, np.float32), np.zeros(n, np.int64), np.zeros(n, np.int64)).ordered()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (rows((1, 0, range(10)), (2, 50, range(10))), rows((7, 51, range(10)), (9, 1, range(10))), {7: 2, 9: 1}),
        (rows((1, 0, range(10))), rows((7, 15, range(10))), {}),
        (rows((1, 0, range(9))), rows((7, 0, range(8, 10))), {}),
        (rows((1, 0, range(10)), (2, 4, range(10))), rows((7, 1, range(10))), {7: 1}),
        (rows(), rows((7, 0, range(10))), {}),
        (rows((1, 0, range(40))), rows((7, 0, range(21, 40))), {7: 1}),
    ],
    ids=["two", "beside", "only for a moment", "the nearer", "nobody", "found late"],
)
def test_who_is_who(first: Tracks, second: Tracks, expected: dict[int, int]) -> None:
    assert matched(first, second) == expected


def test_what_the_second_found_late_is_the_first_s_until_then(tmp_path: Path) -> None:
    """But for where the second knows it by another name."""
    first, second = rows((1, 0, range(20))), rows((7, 0, range(15, 20)), (8, 1, range(10, 12)))
    assert bridge(first, second, {7: 1}, 10).frames.tolist() == [12, 13, 14]
    one, two = (codec.encode(Mask.from_array(np.arange(9).reshape(3, 3) < size)) for size in (1, 2))
    with Journal(tmp_path / "a", "a") as a, Journal(tmp_path / "b", "b") as b, Journal(tmp_path / "c", "c") as whole:
        a.add(Part(rows((1, 0, range(20))), {(n, 0): one for n in range(20)}))
        b.add(Part(rows((3, 90, range(20)), (7, 0, range(9, 20))), {(n, 0): two for n in range(20)}))
        a.save(20, None, done=True)
        b.save(20, None, done=True)
        for part in stitched([(Stretch(0, 20), a), (Stretch(8, 28), b)]):
            whole.add(part)
        whole.save(28, None, done=True)
        found = whole.tracks()
        own = found.keep(found.ids == 1)
        assert own.frames.tolist() == list(range(28))
        areas = [whole.geometries(n)[row] for n, row in zip(own.frames.tolist(), own.rows.tolist(), strict=True)]
    assert [area.area for area in areas] == [1] * 17 + [2] * 11


def test_damage_of_all_chunks_is_told_once(plan: Plan, tmp_path: Path) -> None:
    spans, paths = [Stretch(0, 20), Stretch(8, 28)], [tmp_path / "a", tmp_path / "b"]
    for span, path, count in zip(spans, paths, (1, 2), strict=True):
        with Journal(path, chunks._mark("job", span)) as part:
            for number in range(count):
                part.note_damage(f"Frame {count}.{number} is damaged.")
            part.save(20, None, done=True)
    with Journal(tmp_path / "whole", "job") as whole:
        chunks._join(spans, paths, "job", whole, plan, DEFAULT)
        assert whole.lost == ("Frame 1.0 is damaged.", 3)
        assert whole.damage == "Frame 1.0 is damaged. Frames that could not be read: 3."


def test_a_stretch_knows_its_frames():
    assert 3 in Stretch(3, 5) and 5 not in Stretch(3, 5) and len(Stretch(3, 5)) == 2


def test_other_workers_begin_anew_and_leave_nothing_of_the_first(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks have other identities at their seams: what one worker has begun is no start for two."""
    monkeypatch.setattr(label_job, "label_in_chunks", partial(label_in_chunks, overlap=16, least=24, opened=opened))
    clip = tmp_path / "toy.mp4"
    clip.write_bytes(b"what it shows comes from elsewhere")
    reporter = Reporter(quiet=True)

    def run(out: str, spread: Spread | None, stop: threading.Event, source=VIDEO) -> bool:
        done = label_one(
            clip, source, plan, source.support((0,)), NOTHING, tmp_path / out, reporter, stop,
            options=DEFAULT, overlay=False, about={}, spread=spread,
        )  # fmt: skip
        return not done.stopped

    class Stopping(ToyVideo):
        def read(self, index: int):
            if index >= 20:
                stop.set()
            return super().read(index)

    two, stop = Spread(LocalExecutor(), 2), threading.Event()
    assert run("fresh", two, threading.Event())
    assert not run("again", None, stop, Stopping(56, seed=1, things=THINGS))
    (tmp_path / "again" / "0123.chunk5.sqlite").touch()
    mark = fingerprint(label_job._identity(clip), plan, VIDEO.support((0,)), VIDEO)
    with Journal(tmp_path / "again" / JOURNAL, mark) as begun:  # something that only the first run has seen
        assert begun.next_frame
        begun.add(Part(rows((99, 5, range(1, 9)))))
        begun.save(begun.next_frame, begun.state)
    assert run("again", two, threading.Event())
    told = [(tmp_path / out / "tracks.txt").read_text() for out in ("fresh", "again")]
    assert told[0] == told[1]
    assert not list(tmp_path.glob("*/*.sqlite*"))
