"""A whole video through the pipeline into its journal, from where an earlier run stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field

from common.detection.contract import Detector
from common.errors import FrameUnreadable
from common.prediction.journal import Journal
from common.prediction.looks import Looks
from common.prediction.pipeline import Pipeline
from common.prediction.seeds import Seeds
from common.prediction.settings import PredictionSettings
from common.video.contract import FrameSource, Image
from common.video.numbered import numbered


@dataclass
class _Batch:
    """after: number of the frame after the batch. damage: what is wrong with frames that cannot be had."""

    after: int
    numbers: list[int] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


def predict_video(
    source: FrameSource,
    detector: Detector,
    settings: PredictionSettings,
    journal: Journal,
    *,
    looks: Looks | None = None,
    stop: threading.Event | None = None,
    on_frame: Callable[[int], None] | None = None,
    seeds: Seeds | None = None,
    keep: bool = False,
) -> bool:
    """Fills the journal. False when `stop` ended it before the video was through; calling it again goes on from there.

    detector: a fresh one when it is temporal. on_frame: told how many frames are through, after each batch. Batches are
    the same whether or not the job was interrupted, so networks that round differently for other batches give equal
    results. A temporal detector that is not `Resumable` looks at the frames before again. seeds: the same each time. keep:
    put all detections into the journal, so that `Results` can look at identities from the video's end too.
    """
    if journal.done:
        return True
    prepare = getattr(detector, "prepare", None)
    if prepare is not None:
        prepare()
    journal.describe(detector.card)
    start = journal.next_frame
    keep = keep and settings.both_ends
    with Pipeline(detector, settings, source.info.fps, looks, journal.state, seeds, keep) as pipeline:
        again = detector.card.temporal and not pipeline.remembers
        if start and again and not _replay(source, detector, settings, start, stop):
            return False
        with closing(_batches(source, settings, start, source.info.frames)) as batches:
            for batch in batches:
                if stop is not None and stop.is_set():
                    journal.save(start, pipeline.save())
                    return False
                if batch.numbers:
                    journal.add(pipeline.step(batch.numbers, batch.images))
                for what in batch.damage:
                    journal.note_damage(what)
                start = batch.after
                if journal.due:
                    journal.save(start, pipeline.save())
                if on_frame is not None:
                    on_frame(start)
        journal.add(pipeline.finish())
        journal.save(source.info.frames, None, done=True)
    return True


def _replay(
    source: FrameSource, detector: Detector, settings: PredictionSettings, until: int, stop: threading.Event | None
) -> bool:
    with closing(_batches(source, settings, 0, until)) as batches:
        for batch in batches:
            if stop is not None and stop.is_set():
                return False
            if batch.images:
                detector.detect(batch.images)
    return True


def _batches(source: FrameSource, settings: PredictionSettings, start: int, end: int) -> Generator[_Batch, None, None]:
    """Frames that are looked at, in batches that begin at multiples of the batch."""
    span = settings.batch * settings.every
    batch = _Batch(start)
    if start >= end:
        return
    with closing(numbered(source, start, end)) as frames:
        for number, image in frames:
            if isinstance(image, FrameUnreadable):
                batch.damage.append(str(image))
            elif number % settings.every == 0:
                batch.numbers.append(number)
                batch.images.append(image)
            if (number + 1) % span == 0 or number + 1 == end:
                batch.after = number + 1
                yield batch
                batch = _Batch(number + 1)
