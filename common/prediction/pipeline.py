"""One video's frames in, rows with identities out: detection, camera motion, looks and association, batch after batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.association import registry as associators
from common.association.camera.motion import CameraMotion
from common.association.contract import Affine, Associator, Tracks
from common.detection.contract import Detections, Detector, Resumable
from common.detection.selection import Selection, select
from common.geometry import codec
from common.geometry.types import Points
from common.prediction import kept
from common.prediction.looks import Looks
from common.prediction.seeds import Seeds
from common.prediction.settings import PredictionSettings
from common.prediction.untracked import UNTRACKED, Untracked
from common.tracking.snapshot import Tree, pack, unpack
from common.video.contract import Image

KEYPOINT_SEEN = 0.3
"""Keypoints that score less are guesses and count as hidden."""

Place = tuple[int, int]
"""Frame, row of the frame's detections."""


@runtime_checkable
class FrameDetector(Protocol):
    """A detector that wants to know which frames of the video the pictures are: one that runs elsewhere, beside the video."""

    def detect_frames(self, numbers: Sequence[int], images: Sequence[Image]) -> list[Detections]: ...


@dataclass(frozen=True)
class Part:
    """What became sure. geometry: codec bytes of the masks and keypoints of the rows, by place. motions: the camera's, by
    frame. looks: sum of unit vectors and their number, by identity. seen: of each frame that was looked at all detections,
    followed or not, as `kept` encodes them; empty when they are not to be kept. people: what people labelled on it."""

    tracks: Tracks
    geometry: Mapping[Place, bytes] = field(default_factory=dict)
    motions: Mapping[int, Affine] = field(default_factory=dict)
    looks: Mapping[int, tuple[NDArray[np.float32], int]] = field(default_factory=dict)
    seen: Mapping[int, bytes] = field(default_factory=dict)
    people: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kept:
    """Of one frame's detections, as long as an associator may come back to it."""

    geometry: tuple[bytes, ...]
    looks: NDArray[np.float32] | None


class Pipeline:
    """Use as a context manager. Memory: one batch, and the detections of the frames that the associator looks back on.

    detector: a fresh one when it is temporal. state: what `save` gave, to go on from there. remembers: whether the detector
    goes on from there as well; a temporal one that does not must be shown the frames before. seeds: objects that go on; on
    frames where they are labelled they are not given out. keep: whether all detections are given out as well.
    """

    def __init__(
        self,
        detector: Detector,
        settings: PredictionSettings,
        fps: float,
        looks: Looks | None = None,
        state: bytes | None = None,
        seeds: Seeds | None = None,
        keep: bool = False,
    ) -> None:
        self._detector, self._looks, self._keeps = detector, looks, keep
        tree: Tree = None if state is None else unpack(state)
        made = replace(settings.association(fps), first_id=1 if seeds is None else seeds.count + 1)
        self._seeds = seeds
        saved = None if tree is None else tree["associator"]
        self._associator: Associator = (
            Untracked(made, saved) if settings.tracker == UNTRACKED else associators.make(settings.tracker, made, saved)
        )
        self._camera = CameraMotion("flow")
        self._kept: dict[int, _Kept] = {}
        self.remembers = False
        if tree is not None:
            self._camera.restore(tree["camera"])
            self._kept = {int(frame): _Kept(tuple(g), looks) for frame, (g, looks) in tree["kept"].items()}
            remembered = tree.get("detector")
            if remembered is not None and isinstance(detector, Resumable):
                detector.restore(remembered)
                self.remembers = True
        self._selection = Selection(threshold=settings.thresholds.low, classes=settings.classes, most=1000)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="camera")

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def step(self, numbers: Sequence[int], images: Sequence[Image]) -> Part:
        """The next frames, in order. numbers: of each in the video."""
        motions = self._pool.submit(lambda: [self._camera.estimate(image) for image in images])
        by_number = self._detector.detect_frames if isinstance(self._detector, FrameDetector) else None
        found = self._detector.detect(images) if by_number is None else by_number(numbers, images)
        names = self._detector.card.classes
        out: list[Tracks] = []
        moved: dict[int, Affine] = {}
        geometry: dict[Place, bytes] = {}
        looks: dict[int, tuple[NDArray[np.float32], int]] = {}
        whole: dict[int, bytes] = {}
        people: dict[int, bytes] = {}
        for number, image, all_seen, camera in zip(numbers, images, found, motions.result(), strict=True):
            seen = select(all_seen, names, self._selection)
            if self._looks is not None and len(seen):
                seen = replace(seen, embeddings=self._looks(image, seen.xyxy))
            self._keep(number, seen)
            if camera is not None:
                moved[number] = camera
            given = None if self._seeds is None else self._seeds.at(number)
            tracks = self._associator.update(seen, frame=number, camera=camera, given=given)
            if self._keeps:
                whole[number] = kept.encode(seen)
                if given is not None and len(given.ids):
                    people[number] = kept.encode_people(given)
            out.append(tracks)
            self._collect(tracks, geometry, looks)
        return Part(Tracks.joined(out), geometry, moved, looks, whole, people)

    def finish(self) -> Part:
        """What is still unsure at the end of the video, and nothing speaks against."""
        tracks = self._associator.flush()
        geometry: dict[Place, bytes] = {}
        looks: dict[int, tuple[NDArray[np.float32], int]] = {}
        self._collect(tracks, geometry, looks)
        return Part(tracks, geometry, {}, looks)

    def save(self) -> bytes:
        """Bounded; going on from it gives the same as never stopping, but for what a temporal detector remembers that is not
        `Resumable`."""
        remembered = self._detector.state() if isinstance(self._detector, Resumable) else None
        places = {str(frame): (list(one.geometry), one.looks) for frame, one in self._kept.items()}
        return pack(
            {
                "associator": self._associator.save(),
                "camera": self._camera.state(),
                "kept": places,
                "detector": remembered,
            }
        )

    def _keep(self, number: int, seen: Detections) -> None:
        self._kept[number] = _Kept(_geometries(seen, self._detector), seen.embeddings)
        while len(self._kept) > self._associator.lookback + 1:
            del self._kept[next(iter(self._kept))]

    def _collect(
        self,
        tracks: Tracks,
        geometry: dict[Place, bytes],
        looks: dict[int, tuple[NDArray[np.float32], int]],
    ) -> None:
        columns = (tracks.frames.tolist(), tracks.rows.tolist(), tracks.ids.tolist())
        for frame, row, identity in zip(*columns, strict=True):
            known = self._kept.get(frame)
            if row < 0 or known is None:
                continue
            if known.geometry:
                geometry[frame, row] = known.geometry[row]
            if known.looks is not None:
                total, count = looks.get(identity, (np.float32(0), 0))
                looks[identity] = (np.asarray(total + known.looks[row], np.float32), count + 1)


def _geometries(seen: Detections, detector: Detector) -> tuple[bytes, ...]:
    """() for boxes, which the rows themselves hold."""
    if seen.masks is not None:
        return tuple(codec.encode(mask) for mask in seen.masks)
    if seen.keypoints is not None:
        bones = detector.card.bones
        return tuple(
            codec.encode(Points(points[:, :2], points[:, 2] >= KEYPOINT_SEEN, bones)) for points in seen.keypoints
        )
    return ()
