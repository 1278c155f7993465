"""A video whose frames say their number, and detectors that know what is on each frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from common.detection.contract import Detections, DetectorCard
from common.errors import FrameUnreadable
from common.geometry.types import Mask
from common.video.contract import Image, VideoInfo

WIDTH, HEIGHT = 200, 160


class NumberedSource:
    """Frame n has n in its first two pixels. missing: frames that cannot be read."""

    def __init__(self, frames: int, missing: Sequence[int] = ()) -> None:
        self.info = VideoInfo(frames, WIDTH, HEIGHT, 25.0, name="numbers")
        self._missing = frozenset(missing)
        self._ground = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    def read(self, index: int) -> Image:
        if index in self._missing or not 0 <= index < self.info.frames:
            raise FrameUnreadable(f"Frame {index} is gone.", index)
        image = self._ground.copy()
        image[0, 0] = index // 256
        image[0, 1] = index % 256
        return image

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop, 1 if stop >= start else -1):
            yield self.read(index)

    def close(self) -> None: ...


def number(image: Image) -> int:
    return int(image[0, 0, 0]) * 256 + int(image[0, 1, 0])


class ToyDetector:
    """Two things that cross the picture, one of which appears on frame `late`. kind: "box", "mask", "keypoints" or
    "oriented_box". temporal: its scores then depend on how many pictures it has seen, as a temporal detector's do."""

    def __init__(self, kind: str = "box", late: int = 9, temporal: bool = False) -> None:
        points = ("head", "foot") if kind == "keypoints" else ()
        self.card = DetectorCard(
            "toy", "Toy", ("car", ""), "MIT", "none", temporal=temporal, finds=kind,  # type: ignore[arg-type]
            keypoints=points, bones=((0, 1),) if points else (),
        )  # fmt: skip
        self._kind, self._late, self._seen = kind, late, 0
        self.batches: list[list[int]] = []

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.batches.append([number(image) for image in images])
        return [self._one(number(image)) for image in images]

    def _one(self, frame: int) -> Detections:
        self._seen += 1
        rng = np.random.default_rng(frame)
        rows = [(10 + 2.0 * frame, 30.0, 0)]
        if frame >= self._late:
            rows.append((170 - 2.0 * (frame - self._late), 90.0, 1))
        xyxy = np.array([[x, y, x + 24, y + 30] for x, y, _ in rows]) + rng.normal(0, 0.3, (len(rows), 1))
        scores = np.full(len(rows), 0.8 + (0.1 * (self._seen % 7) / 7 if self.card.temporal else 0.0))
        classes = np.array([label for *_, label in rows])
        masks = keypoints = oriented = None
        if self._kind == "mask":
            masks = tuple(self._mask(box) for box in xyxy)
        if self._kind == "keypoints":
            one = np.ones(len(rows))
            head = np.stack((xyxy[:, 0] + 12, xyxy[:, 1], one), 1)
            foot = np.stack((xyxy[:, 0] + 12, xyxy[:, 3], 0.1 * one), 1)
            keypoints = np.stack((head, foot), 1)
        if self._kind == "oriented_box":
            size = np.tile((24.0, 30.0, 0.0), (len(rows), 1))
            oriented = np.concatenate(((xyxy[:, :2] + xyxy[:, 2:]) / 2, size), 1)
        return Detections(xyxy, scores, classes, masks, None, oriented, keypoints)

    @staticmethod
    def _mask(box: np.ndarray) -> Mask:
        full = np.zeros((HEIGHT, WIDTH), bool)
        x1, y1, x2, y2 = np.clip(box.round().astype(int), 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
        full[y1:y2, x1:x2] = True
        return Mask.from_array(full)


class RememberingDetector(ToyDetector):
    """A temporal one whose memory can be saved."""

    def __init__(self, kind: str = "box") -> None:
        super().__init__(kind, temporal=True)

    def state(self) -> bytes:
        return str(self._seen).encode()

    def restore(self, state: bytes) -> None:
        self._seen = int(state)
