"""Detecting through a video, frame by frame in the order asked for, with identities where they are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from common.association.contract import Associator, Tracks
from common.association.reid.descriptor import describe
from common.detection.contract import Detections
from common.detection.selection import Selection, select
from common.video.contract import FrameSource, Image


class Looks(Protocol):
    """Whoever detects (`DetectionService.look`): a batch of pictures in, one `Detections` each out."""

    def __call__(self, images: list[Image]) -> list[Detections]: ...


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame, done. rows: which detections are wanted; tracks: with identities, the frame's rows of the associator
    (`tracks.rows` leads to the detections), else None."""

    frame: int
    detections: Detections
    tracks: Tracks | None = None


def pictures(source: FrameSource, frames: range) -> Iterator[tuple[int, Image]]:
    """The frames of a range, decoded in one go; with wide strides each is sought for instead."""
    if not len(frames):
        return
    if abs(frames.step) > 64:
        for number in frames:
            yield number, source.read(number)
        return
    way = 1 if frames.step > 0 else -1
    for number, image in zip(
        range(frames[0], frames[-1] + way, way), source.stream(frames[0], frames[-1] + way), strict=False
    ):
        if (number - frames[0]) % abs(frames.step) == 0:
            yield number, image


def detect_video(
    source: FrameSource,
    frames: range,
    look: Looks,
    names: tuple[str, ...],
    chosen: Selection,
    associator: Associator | None,
    batch: int,
    stopped: Callable[[], bool],
    looks: bool = False,
) -> Iterator[Seen]:
    """Each frame once, in the order of `frames`, as soon as it is final. Ends early, between two frames, when stopped.

    Without associator: the detections that are `chosen`. With one: all detections that it may use, and its identities;
    a frame is held until no identity can be given to it any more, at most `associator.lookback` frames. looks: what the
    detections look like is described for it.
    """
    held: deque[tuple[int, Detections]] = deque()
    rows: dict[int, list[Tracks]] = {}
    waiting: list[tuple[int, Image]] = []

    def final(leave: int) -> Iterator[Seen]:
        while len(held) > leave:
            number, detections = held.popleft()
            yield Seen(number, detections, Tracks.joined(rows.pop(number, [])))

    def take(tracks: Tracks) -> None:
        for number in np.unique(tracks.frames):
            rows.setdefault(int(number), []).append(tracks.keep(tracks.frames == number))

    def work() -> Iterator[Seen]:
        found = look([image for _, image in waiting])
        for (number, image), one in zip(waiting, found, strict=True):
            if stopped():
                return
            if associator is None:
                yield Seen(number, select(one, names, chosen))
                continue
            usable = select(one, names, _everything(chosen))
            if looks and usable.embeddings is None:
                usable = replace(usable, embeddings=describe(image, usable.xyxy))
            held.append((number, usable))
            take(associator.update(usable, image, frame=number))
            yield from final(associator.lookback)
        waiting.clear()

    for entry in pictures(source, frames):
        if stopped():
            return
        waiting.append(entry)
        if len(waiting) >= batch:
            yield from work()
    if stopped():
        return
    if waiting:
        yield from work()
    if associator is not None and not stopped():
        take(associator.flush())
        yield from final(0)


def _everything(chosen: Selection) -> Selection:
    """The same without thresholds: weak detections continue tracks."""
    return Selection(0.0, {}, chosen.classes, chosen.overlap, chosen.across, max(chosen.most, 300))
