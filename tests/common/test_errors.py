"""Errors pass between processes with all they hold."""

from __future__ import annotations

import pickle

import pytest

from common import errors
from common.errors import FrameUnreadable, ServerRefused, ServerUnreachable, UserError

HOLDING = (
    FrameUnreadable("Frame 7 is damaged.", 7),
    ServerRefused("No such figure.", 404, "figures.info"),
    ServerUnreachable("No answer.", True, 2.5),
)
KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, UserError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_it_comes_back_as_it_was(kind: type[UserError]) -> None:
    one = next((known for known in HOLDING if type(known) is kind), None) or kind("What is wrong.")
    again = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    assert type(again) is kind and str(again) == str(one) and vars(again) == vars(one)
