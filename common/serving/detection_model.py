"""The detector of one process: made ready once, replaced when the owner says so, used by one job at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from common.detection import registry
from common.detection.contract import Detections, Detector, DetectorCard, DetectorSettings
from common.errors import UserError
from common.serving.detection_video import Looks
from common.serving.replies import Rejected, sentence
from common.video.contract import Image
from common.weights.options import EngineOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """Which detector, and how it runs."""

    name: str
    options: EngineOptions = field(default_factory=EngineOptions)
    settings: DetectorSettings = field(default_factory=DetectorSettings)


class Model:
    """Thread-safe. make: makes the detector of a set-up. trouble: why there is none yet."""

    def __init__(self, setup: Setup, make: Callable[[Setup], Detector] | None = None) -> None:
        self._make = make or (lambda chosen: registry.make(chosen.name, chosen.options, chosen.settings))
        self.setup = setup
        self._detector: Detector | None = None
        self._looking = threading.Lock()
        self.trouble: str | None = None

    def load(self) -> None:
        """Makes the detector and looks once, which reads its weights. What is wrong is kept in `trouble`."""
        try:
            self._detector = self._loaded(self.setup)
            self.trouble = None
        except UserError as error:
            self.trouble = str(error)
            log.error("the detector could not be made ready: %s", error)
        except Exception as error:  # the end of a thread: nobody else would tell it
            self.trouble = sentence(error)
            log.exception("the detector could not be made ready")

    def deploy(self, setup: Setup) -> None:
        """Another detector from now on; jobs under way go on with theirs. Raises what is wrong with it."""
        detector = self._loaded(setup)
        self._detector, self.setup, self.trouble = detector, setup, None

    def _loaded(self, setup: Setup) -> Detector:
        detector = self._make(setup)
        if not detector.card.temporal:
            detector.detect([np.full((64, 64, 3), 114, np.uint8)])
        return detector

    @property
    def ready(self) -> bool:
        return self._detector is not None

    @property
    def detector(self) -> Detector:
        """Raises `Rejected` (503) while there is none."""
        if self._detector is None:
            raise Rejected(self.trouble or "The model is being loaded.", 503)
        return self._detector

    @property
    def card(self) -> DetectorCard:
        return self.detector.card

    def look(self) -> tuple[DetectorCard, Looks]:
        """For one job: a detector that compares frames is its own, others are shared and used by one at a time."""
        detector = self.detector
        if detector.card.temporal:
            detector = self._make(self.setup)
            return detector.card, detector.detect

        def look(images: list[Image]) -> list[Detections]:
            with self._looking:
                return detector.detect(images)

        return detector.card, look
