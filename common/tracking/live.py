"""A tracker at work on one set of objects: what it gives out carries frame numbers and confidence.

This is what everything above the trackers holds on to: sessions over a whole video, the engine memory behind `track-api`,
Auto Track's tracklets. It lives as long as the objects are followed, however many requests that takes.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.tracking.confidence import ConfidenceMeter
from common.tracking.contract import Exemplar, Prediction, Prompt, Run, Tracker
from common.tracking.presence import Presence, PresenceSettings
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image


@dataclass(frozen=True)
class Tracked:
    """A prediction that is final. frame: 0-based."""

    frame: int
    prediction: Prediction


class LiveTrack:
    """Owned by one thread. Memory: the run's own, and the frames that it holds back (at most its card's lookahead).

    A prediction is visible when the tracker says so and the object's presence bears it out: brief dips do not flicker,
    and an object that is hidden or out of the picture has no visible figure until it is back.
    """

    def __init__(self, run: Run, meter: ConfidenceMeter, presence: dict[str, Presence]) -> None:
        self._run = run
        self._meter = meter
        self._presence = presence
        self._held: deque[tuple[int, Image]] = deque()

    @classmethod
    def start(
        cls,
        tracker: Tracker,
        image: Image,
        prompts: Sequence[Prompt],
        exemplars: Sequence[Exemplar] = (),
        fps: float = 0.0,
    ) -> LiveTrack:
        """Begin on the frame where the prompts were drawn. fps: of the video, 0 = unknown; how long a dip is brief.
        Raises `PromptInvalid` as `Tracker.start` does.
        """
        run = tracker.start(image, prompts, exemplars)
        meter = ConfidenceMeter()
        meter.start(image, prompts, exemplars)
        # An object that left may come back as long as its tracker looks for it, so its presence never ends by itself.
        settings = replace(PresenceSettings.for_fps(fps), leave_after=sys.maxsize)
        presence = {prompt.key: Presence(image.shape[1], image.shape[0], settings) for prompt in prompts}
        for prompt in prompts:
            presence[prompt.key].update(Prediction(prompt.key, prompt.geometry, 1.0, True))
        return cls(run, meter, presence)

    def push(self, frame: int, image: Image) -> list[Tracked]:
        """The next frame of the video in the direction of travel: what became final, in order."""
        self._held.append((frame, image))
        return self._collect(self._run.push(image))

    def flush(self) -> list[Tracked]:
        """No more frames: what was held back."""
        return self._collect(self._run.flush())

    def save(self) -> bytes:
        """Bounded snapshot for `load`."""
        presence = {key: presence.save() for key, presence in self._presence.items()}
        return pack(
            {"run": self._run.save(), "meter": self._meter.save(), "presence": presence, "held": list(self._held)}
        )

    @classmethod
    def load(cls, tracker: Tracker, snapshot: bytes) -> LiveTrack:
        """Continue where `save` was called."""
        tree = unpack(snapshot)
        presence = {key: Presence.load(state) for key, state in tree["presence"].items()}
        live = cls(tracker.load(tree["run"]), ConfidenceMeter.load(tree["meter"]), presence)
        live._held.extend(tree["held"])
        return live

    def _collect(self, rows: list[list[Prediction]]) -> list[Tracked]:
        final: list[Tracked] = []
        for row in rows:
            frame, image = self._held.popleft()
            for prediction in self._meter.update(image, row):
                drawn = self._presence[prediction.key].update(prediction).draw
                final.append(Tracked(frame, replace(prediction, visible=prediction.visible and drawn)))
        return final
