"""What can be set of the online associators, each with what raising it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.association.kalman import MotionModel

CameraMethod = Literal["none", "flow", "orb", "ecc"]
TICKS_PER_S = 30.0
"""The motion model's unit of time: what its noise is published for."""


@dataclass(frozen=True)
class Thresholds:
    """high: detections from this score on take part in the first round; raised: doubtful ones only continue tracks. low:
    below it a detection is not looked at. birth: from this score on a detection begins a track."""

    high: float = 0.4
    low: float = 0.1
    birth: float = 0.6

    @property
    def brief(self) -> float:
        """Mean score from which a track is believed though it is brief, 0..1: a little above that of births.

        >>> [round(Thresholds(birth=birth).brief, 2) for birth in (0.3, 0.6, 0.9)]
        [0.35, 0.7, 0.95]
        """
        return min(self.birth * 7 / 6, (1 + self.birth) / 2)


@dataclass(frozen=True)
class Timing:
    """Which frames the updates are. start: number of the first one. step: from one to the next, negative for backward.
    fps: of the video, all frames counted; 0 = unknown, taken for 30."""

    start: int = 0
    step: int = 1
    fps: float = 0.0

    def __post_init__(self) -> None:
        if self.step == 0 or not (np.isfinite(self.fps) and self.fps >= 0):
            raise ValueError("the step between frames is not 0, and frames per second are 0 (unknown) or more")


@dataclass(frozen=True)
class Settings:
    """Of BoT-SORT; ByteTrack and DeepSORT use those that concern them.

    thresholds: for all classes but those in `per_class` (class index -> its own). confirm: detections that make a track
    sure; raised: fewer false tracks, and those shorter than that are lost. backfill: frames before that which are given out
    at most once it is sure. patience_s: seconds that a lost track waits
    for its object; raised: longer occlusions are bridged, at more wrong identities. match, match_low, match_new: largest
    cost (1 - overlap, weighted) of the rounds against good detections, against doubtful ones, and of unsure tracks;
    raised: larger jumps are followed, at more wrong identities. slack: how many deviations of the predicted place count
    as near; raised: sudden moves are followed. class_cost: cost of a detection of another class than the track was voted
    to have, at most; 1 or more forbids it. duplicate: overlap from which two boxes are one object. camera: how the
    camera's motion is measured in the pictures. near, alike: looks count for boxes that overlap more than 1 - near, and
    whose looks are nearer than `alike` (half the cosine distance).
    """

    thresholds: Thresholds = Thresholds()
    per_class: Mapping[int, Thresholds] = field(default_factory=dict)
    timing: Timing = Timing()
    motion: MotionModel = field(default_factory=MotionModel)
    confirm: int = 2
    backfill: int = 8
    patience_s: float = 1.0
    match: float = 0.8
    match_low: float = 0.5
    match_new: float = 0.7
    slack: float = 0.5
    class_cost: float = 0.2
    duplicate: float = 0.85
    camera: CameraMethod = "none"
    near: float = 0.5
    alike: float = 0.25
    first_id: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.confirm <= self.backfill or self.first_id < 1:
            raise ValueError(
                "a track is sure after 1 detection or more, at most as many as are kept, and identities count from 1 or more"
            )

    def limits(self, classes: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
        """high, low and birth for detections of these classes, float64 (n,) each."""
        usual = (self.thresholds.high, self.thresholds.low, self.thresholds.birth)
        table = np.repeat(np.array(usual)[:, None], len(classes), 1)
        for number, own in self.per_class.items():
            table[:, classes == number] = np.array((own.high, own.low, own.birth))[:, None]
        return table[0], table[1], table[2]
