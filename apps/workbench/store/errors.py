"""What a request can have wrong, as the store sees it; the API turns them into status codes."""

from __future__ import annotations

from common.errors import UserError


class NotFound(UserError):
    """The thing with that id is not there (any more)."""


class Refused(UserError):
    """The request asks for something that cannot be stored; the message says which part and why."""


class NameTaken(Refused):
    """Some of the names that new things were to have are in use. taken: name -> id of what has it."""

    def __init__(self, message: str, taken: dict[str, int]) -> None:
        super().__init__(message)
        self.taken = taken


class TooLarge(UserError):
    """The upload or body is above the limit."""


def missing(kind: str, ident: object) -> NotFound:
    return NotFound(f"There is no {kind} with id {ident}.")
