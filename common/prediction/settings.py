"""What a person may choose when a whole video is to be labelled by detection and association."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from common.association import registry as associators
from common.association.settings import Settings, Thresholds, Timing
from common.errors import EngineUnavailable
from common.prediction.untracked import UNTRACKED
from common.weights.options import DEFAULT, EngineOptions

NO_LOOKS, DESCRIPTOR = "none", "descriptor"


@dataclass(frozen=True)
class PredictionSettings:
    """detector: a name of the registry; options: with which weights, where. tracker: an associator, or "none" for
    detections without identities. repair: link, fill,
    drop and smooth once the video is known. looks: what tells objects apart by appearance: "none", "descriptor" (no
    weights), or an OSNet of the catalogue, "NAME=FILE" for weights from a file. classes: only these; None = all.
    confidence: score from which a detection begins an object, 0..1; raised: fewer and surer objects; None = that of
    `Thresholds`. every: detect on each so-manieth frame; raised: faster, fast objects are lost. batch: frames that go
    through the detector together.
    """

    detector: str
    options: EngineOptions = field(default=DEFAULT)
    tracker: str = "botsort"
    repair: bool = True
    looks: str = DESCRIPTOR
    classes: tuple[str, ...] | None = None
    confidence: float | None = None
    every: int = 1
    batch: int = 8

    def __post_init__(self) -> None:
        if self.tracker not in (*associators.names(), UNTRACKED):
            known = ", ".join(associators.names())
            raise EngineUnavailable(f"There is no tracker {self.tracker!r} for detections. Known: {known}.")
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise ValueError(f"confidence is above 0 and at most 1, got {self.confidence}")
        if self.every < 1 or self.batch < 1:
            raise ValueError("every and batch are 1 or more")
        if self.classes is not None and not self.classes:
            raise ValueError("at least one class is needed; leave classes out for all")

    @property
    def both_ends(self) -> bool:
        """Whether there are identities to be looked at from the video's end as well."""
        return self.repair and self.tracker != UNTRACKED

    @property
    def thresholds(self) -> Thresholds:
        if self.confidence is None:
            return Thresholds()
        birth = self.confidence
        return Thresholds(high=birth * 5 / 6, low=min(0.1, birth / 2), birth=birth)

    def association(self, fps: float) -> Settings:
        """The camera's motion is measured beside detection and handed over."""
        return Settings(thresholds=self.thresholds, timing=Timing(0, self.every, fps), camera="none")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for databases and other processes; `from_json` reads them."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> PredictionSettings:
        rest = dict(data)
        options = EngineOptions(**rest.pop("options", {}))
        classes = rest.pop("classes", None)
        return PredictionSettings(options=options, classes=None if classes is None else tuple(classes), **rest)
