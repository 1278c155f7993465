"""A long video in chunks that several workers label at once, through the `Executor` port; `stitch` makes one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from common.cluster.contract import Executor, MakeWorker, Task
from common.labeling.plan import Plan, labelled_boxes
from common.labeling.stitch import Stretch, stitched
from common.labeling.support import SupportSet
from common.labeling.temporal import Given
from common.prediction.journal import Journal
from common.prediction.looks import Looks, make_looks
from common.prediction.video import predict_video
from common.video.contract import FrameSource, Image, VideoInfo
from common.video.reader import open_source
from common.weights.options import DEFAULT, EngineOptions

OVERLAP = 40
"""Frames that neighbouring chunks share: identities are told from them, after the second chunk's trackers have settled."""
LEAST = 4 * OVERLAP
"""Frames of a chunk at least, for the shared ones are done twice."""


def cut(frames: int, parts: int, every: int = 1, overlap: int = OVERLAP, least: int = LEAST) -> list[Stretch]:
    """Stretches that share `overlap` frames with the one before. Fewer than `parts` where the video is too short for them.
    Starts are multiples of 4 * every, so that workers look on the frames, and in the batches, of one that does it all.

    >>> [(s.start, s.stop) for s in cut(1000, 3)]
    [(0, 360), (320, 680), (640, 1000)]
    """
    parts = max(1, min(parts, frames // max(least, 1)))
    grid = 4 * every
    length = (frames - overlap) / parts
    starts = [round(number * length / grid) * grid for number in range(parts)]
    stops = [start + overlap for start in starts[1:]]
    return [Stretch(start, stop) for start, stop in zip(starts, [*stops, frames], strict=True)]


@dataclass(frozen=True)
class ChunkTask:
    """Plain values for a worker elsewhere. video: path, readable there. labelled: of the whole video. journal: path of the
    chunk's own journal, in a folder that workers share."""

    video: str
    plan: bytes
    labelled: Mapping[int, Given]
    stretch: Stretch
    journal: str
    fingerprint: str


class ChunkWorker:
    """Used by one thread. Keeps what is dear between chunks of the same plan: the network that tells looks apart."""

    def __init__(self, options: EngineOptions = DEFAULT, opened: Callable[[str], FrameSource] = open_source) -> None:
        self._options, self._open = options, opened
        self._looks: Looks | None = None

    def __call__(self, payload: ChunkTask, stop: threading.Event, report: Callable[[int, int], None]) -> bool:
        """Whether the chunk is through; False when it was stopped. Raises `UserError`."""
        task = payload
        plan = Plan.load(task.plan)
        settings = plan.settings(self._options)
        if self._looks is None and not plan.still:
            self._looks = make_looks(plan.looks, self._options)
        own = {n - task.stretch.start: given for n, given in task.labelled.items() if n in task.stretch}
        source = self._open(task.video)
        try:
            with Journal(Path(task.journal), task.fingerprint) as journal:
                part = Part(source, task.stretch)
                whole = part.info.frames

                def told(done: int) -> None:
                    report(done, whole)

                return predict_video(
                    part, plan.video(own, self._options), settings, journal, looks=self._looks, stop=stop, on_frame=told
                )
        finally:
            source.close()


class Part:
    """A `FrameSource`: a stretch of another, numbered from 0. Closing it leaves the other open."""

    def __init__(self, source: FrameSource, stretch: Stretch) -> None:
        self._source, self._stretch = source, stretch
        self.info: VideoInfo = replace(source.info, frames=len(stretch))

    def read(self, index: int) -> Image:
        return self._source.read(self._stretch.start + index)

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        return self._source.stream(self._stretch.start + start, self._stretch.start + stop)

    def close(self) -> None:
        pass


def label_in_chunks(
    video: Path,
    source: FrameSource,
    plan: Plan,
    support: SupportSet | None,
    journal: Journal,
    executor: Executor,
    parts: int,
    *,
    folder: Path,
    fingerprint: str,
    options: EngineOptions = DEFAULT,
    stop: threading.Event | None = None,
    on_frame: Callable[[int], None] | None = None,
    overlap: int = OVERLAP,
    least: int = LEAST,
    opened: Callable[[str], FrameSource] = open_source,
) -> bool:
    """As `label_video`, by `parts` workers at most. folder: for the chunks' journals, shared by all workers; they survive
    being killed, and are removed once the whole is in `journal`. on_frame: frames that are through, of all chunks. Raises
    what a worker's chunk failed with."""
    if journal.done:
        return True
    stretches = cut(source.info.frames, parts, plan.every, overlap, least)
    given = labelled_boxes(support, source) if support is not None else {}
    data = plan.save()
    paths = [folder / f"{fingerprint[:16]}.chunk{number}.sqlite" for number in range(len(stretches))]
    tasks = [
        Task(str(number), ChunkTask(str(video), data, given, stretch, str(path), _mark(fingerprint, stretch)))
        for number, (stretch, path) in enumerate(zip(stretches, paths, strict=True))
    ]
    through = dict.fromkeys((task.key for task in tasks), 0)

    def told(key: str, done: int, _: int) -> None:
        through[key] = done
        if on_frame is not None:
            shared = overlap * (len(stretches) - 1)
            on_frame(max(0, sum(through.values()) - shared))

    finished = 0
    make: MakeWorker[ChunkTask, bool] = partial(ChunkWorker, options, opened)
    for outcome in executor.run(make, tasks, stop=stop, on_progress=told):
        if outcome.error is not None:
            raise outcome.error
        if outcome.answer:
            finished += 1
            # one that was through before says nothing on the way
            whole = len(stretches[int(outcome.key)])
            told(outcome.key, whole, whole)
    if finished < len(tasks):
        return False
    _join(stretches, paths, fingerprint, journal, plan, options)
    for path in paths:
        for leftover in path.parent.glob(path.name + "*"):
            leftover.unlink()
    return True


def _join(
    stretches: Sequence[Stretch], paths: Sequence[Path], mark: str, into: Journal, plan: Plan, options: EngineOptions
) -> None:
    parts = [Journal(path, _mark(mark, stretch)) for path, stretch in zip(paths, stretches, strict=True)]
    try:
        into.describe(plan.video(None, options).card)
        for part in stitched(list(zip(stretches, parts, strict=True))):
            into.add(part)
            if not part.looks:
                into.save(0, None)  # begun again when it is killed here: the same rows take the place of these
        for one in parts:
            first, lost = one.lost
            if first is not None:
                into.note_damage(first, lost)
        into.save(stretches[-1].stop, None, done=True)
    finally:
        for one in parts:
            one.__exit__(None, None, None)


def _mark(fingerprint: str, stretch: Stretch) -> str:
    return f"{fingerprint} {stretch.start} {stretch.stop}"
