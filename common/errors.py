"""Every error that a person can cause or must act on, each with a sentence that says what to do next.

`UserError` is the user's to mend (command line: one line, exit code 2). Anything else that escapes is a fault of ours.
They pass between processes with all they hold.
"""

from typing import Any


class UserError(Exception):
    """The input is wrong. The message names what is wrong and how to mend it, in one line and in a labeler's words."""


class VideoUnreadable(UserError):
    """The file or folder holds no video that can be decoded (missing, empty, not a video, no frames)."""


class FrameUnreadable(UserError):
    """One frame cannot be decoded although the video was opened (truncated or damaged file, index beyond the end).

    index: 0-based number of the first frame that could not be had.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.index)


class PromptInvalid(UserError):
    """What the person drew cannot be tracked: outside the frame, empty, on a frame that does not exist."""


class EngineUnavailable(UserError):
    """No tracker of that name, or it cannot track that geometry, or it cannot run on this machine."""


class WeightsMissing(EngineUnavailable):
    """The network's weights are not on this machine; the message holds the exact command that downloads them."""


class WeightsInvalid(EngineUnavailable):
    """Weights are there and must not or cannot be used: damaged, changed, hostile, or another network's."""


class OutputUnusable(UserError):
    """The output folder cannot be written, or holds another job's results."""


class ServerRefused(UserError):
    """A Supervisely server understood the request and said no; sending it again changes nothing.

    status: HTTP status (400 to 499), 0 when the request could not even be written (NaN in it). method: the REST method.
    """

    def __init__(self, message: str, status: int, method: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.method = method

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.status, self.method)


class ServerUnreachable(UserError):
    """A Supervisely server gave no usable answer in the time allowed: no connection, broken replies, 429 or 5xx.

    uncertain: the server may have done what was asked although its answer never came. retry_after_s: how long it asked
    to be left alone, None when it did not say.
    """

    def __init__(self, message: str, uncertain: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.uncertain = uncertain
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.uncertain, self.retry_after_s)


class Interrupted(UserError):
    """Someone asked for the work to stop while it waited. What was finished before is kept."""
