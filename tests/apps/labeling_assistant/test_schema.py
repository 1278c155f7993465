"""What is asked for is checked before anything is begun."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from apps.labeling_assistant import schema
from common.tracking.contract import TrackerCard


@dataclass
class Named:
    card: TrackerCard


@pytest.mark.parametrize("ahead", [0, 8])
def test_corrections_are_followed_by_trackers_that_answer_at_once(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    card = replace(schema.trackers.make("correlation").card, lookahead=ahead)
    monkeypatch.setattr(schema.trackers, "make", lambda name: Named(card))
    if ahead:
        with pytest.raises(ValueError, match="correlation looks ahead"):
            schema.Mending(video_id=1, tracker="correlation")
    else:
        assert schema.Mending(video_id=1, tracker="correlation").tracker == "correlation"
