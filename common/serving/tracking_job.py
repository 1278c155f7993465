"""A tracking job from its start to its last message: read, track, store, tell - `/track` and `/track_async`.

The order of things is the protocol's: figures first, then the progress that speaks of them; an error before the final
message; exactly one final message, however the job ends. After a stop no frame is begun: those that are finished are written
at once, then the final message is sent, and nothing is written after it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

from common.errors import Interrupted, PromptInvalid, VideoUnreadable
from common.serving.engines import Engines
from common.serving.envelope import Session
from common.serving.jobs import Job
from common.serving.outputs import Found, OnStored, Output
from common.serving.replies import sentence
from common.serving.targets import Loaded, Target, in_picture
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.tracking.live import Tracked
from common.tracking.plan import KeyFigure, plan
from common.tracking.session import TrackingSession, execute
from common.video.contract import FrameSource

log = logging.getLogger(__name__)


class Videos(Protocol):
    """Where frames come from (`VideoCache`)."""

    def open(self, server: Server, record: VideoRecord) -> FrameSource: ...


class Teller(Protocol):
    """Who is told (`ProgressChannel`, or `Silent`)."""

    def advance(self, frame: int, steps: int = 1, tracked: Sequence[int] = ()) -> None: ...

    def extend(self, steps: int) -> None: ...

    def warn(self, message: str) -> None: ...

    def finish(self, error: str | None = None, timeout_s: float = 40.0) -> bool: ...


class Silent:
    """For requests that name no track: there is nobody to tell."""

    def advance(self, frame: int, steps: int = 1, tracked: Sequence[int] = ()) -> None: ...

    def extend(self, steps: int) -> None: ...

    def warn(self, message: str) -> None: ...

    def finish(self, error: str | None = None, timeout_s: float = 40.0) -> bool:
        return True


@dataclass(frozen=True)
class TrackingWork:
    """What a job needs. Call it with the job (`Job.work`).

    announced: steps that `teller` was made with. load: reads what to track. output: opens the place for results, given
    the picture's (width, height) and whom to call when a frame is stored.
    """

    session: Session
    server: Server
    videos: Videos
    engines: Engines
    teller: Teller
    announced: int
    load: Callable[[Server, VideoRecord], Loaded]
    output: Callable[[VideoRecord, tuple[int, int], OnStored], Output]

    def __call__(self, job: Job) -> None:
        """Raises what ended the job, once everybody was told."""
        error: str | None = None
        try:
            if not job.stop.is_set():
                self._track(job)
        except Interrupted:
            job.stop.set()
        except Exception as caught:
            error = sentence(caught)
            raise
        finally:
            self.teller.finish(error)
            if error is None and not job.stop.is_set():
                job.advance(job.total)

    def _track(self, job: Job) -> None:
        asked = self.session
        server = self.server.to(session_id=asked.session_id, stop=job.stop)
        record = video(server, asked.video_id)
        with ExitStack() as stack:
            source = stack.enter_context(closing(self.videos.open(server, record)))
            info = source.info
            if info.frames < 1:
                raise VideoUnreadable(f"Video {record.name!r} has no frames that can be decoded.")
            if asked.frame_index >= info.frames:
                raise PromptInvalid(f"Frame {asked.frame_index} does not exist: the video has {info.frames} frames.")
            loaded = self.load(server, record)
            for why in loaded.left_out:
                self.teller.warn(why)
            targets = self._seen(loaded.targets, info.width, info.height)
            last = info.frames - 1 - asked.frame_index if asked.step > 0 else asked.frame_index
            total = min(asked.frames, last) * len(targets)
            self.teller.extend(total - self.announced)
            job.advance(0, total)
            if total:
                self._run(job, source, targets, record)

    def _seen(self, targets: Sequence[Target], width: int, height: int) -> list[Target]:
        """The targets that the picture shows; one outside it must not end the others."""
        seen = [target for target in targets if in_picture(target.value, width, height)]
        if not seen:
            raise PromptInvalid("Nothing of what was drawn lies in the picture. Draw the object again.")
        if len(seen) < len(targets):
            self.teller.warn(f"{len(targets) - len(seen)} figures lie outside the picture or are empty; not tracked.")
        return seen

    def _run(self, job: Job, source: FrameSource, targets: Sequence[Target], record: VideoRecord) -> None:
        asked, info = self.session, source.info
        by_key = {target.key: target for target in targets}

        def stored(frame: int, steps: int, tracked: list[int]) -> None:
            job.advance(job.done + steps)
            self.teller.advance(frame, steps, tracked)

        passes = plan(
            [KeyFigure(asked.frame_index, target.prompt) for target in targets],
            frames_total=info.frames,
            direction=asked.way,
            engine_of=lambda prompt: self.engines.name_for(by_key[prompt.key].value),
            frames=asked.frames,
        )
        output = self.output(record, (info.width, info.height), stored)
        sink = _Rows(by_key, output)
        finished = False
        try:
            for work in passes:
                session = TrackingSession(work, self.engines.tracker, info.fps)
                outcome = execute(session, source, sink, stop_requested=job.stop.is_set)
                if outcome.damage:
                    self.teller.warn(f"{outcome.damage} The frames that exist were tracked.")
            sink.flush()
            finished = True
        finally:
            # what was finished before an error or a stop is kept
            trouble = self._close(output, job, quiet=not finished)
        if trouble:
            self.teller.warn(trouble)

    def _close(self, output: Output, job: Job, quiet: bool) -> str | None:
        try:
            return output.close(drop=job.stop.is_set())
        except Exception:
            if not quiet:
                raise
            # the error that is under way came first and says more to the labeler
            log.exception("the figures of job %s could not all be written", job.uuid)
            return None


class _Rows:
    """A sink that gives whole frames on: all objects of a frame together, whichever tracker they came from."""

    def __init__(self, targets: dict[str, Target], output: Output) -> None:
        self._targets, self._output = targets, output
        self._frames: defaultdict[int, list[Tracked]] = defaultdict(list)

    def put(self, results: Sequence[Tracked], snapshot: Callable[[], bytes]) -> None:
        for tracked in results:
            self._frames[tracked.frame].append(tracked)
        for frame in [f for f, rows in self._frames.items() if len(rows) == len(self._targets)]:
            self._output.put(frame, self._found(self._frames.pop(frame)))

    def flush(self) -> None:
        """Frames that one tracker finished and another did not (the video broke off)."""
        for frame in list(self._frames):
            self._output.put(frame, self._found(self._frames.pop(frame)))

    def _found(self, rows: Sequence[Tracked]) -> Found:
        order = {key: number for number, key in enumerate(self._targets)}
        ordered = sorted(rows, key=lambda tracked: order[tracked.prediction.key])
        return [(self._targets[tracked.prediction.key], tracked.prediction) for tracked in ordered]
