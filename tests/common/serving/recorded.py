"""Calls of apps as they were recorded once (shared/spec/traffic), to be made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TRAFFIC = Path(__file__).resolve().parents[4] / "shared" / "spec" / "traffic" / "07_app_http_calls.json"


def recorded(*, path: str | None = None) -> list[dict[str, Any]]:
    """The recorded calls, all or those of one path. Skips the test when the recordings are not there."""
    if not TRAFFIC.is_file():
        pytest.skip(f"the recorded calls are not here ({TRAFFIC.name} in ../shared/spec/traffic)")
    calls: list[dict[str, Any]] = json.loads(TRAFFIC.read_text())
    return [call for call in calls if path is None or call["request"]["path"] == path]


def same_form(ours: Any, theirs: Any, at: str = "$") -> None:
    """Ours has every key of the recording, with values of the same JSON type (null fits all, and shortened ones are not
    looked into)."""
    if theirs is None or ours is None or (isinstance(theirs, str) and theirs.startswith("…")):
        return
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), f"{at}: {type(ours).__name__}"
        missing = set(theirs) - set(ours)
        assert not missing, f"{at} lacks {missing}"
        for key in theirs:
            same_form(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), f"{at}: {type(ours).__name__}"
        for number, (a, b) in enumerate(zip(ours, theirs, strict=False)):
            same_form(a, b, f"{at}[{number}]")
    elif isinstance(theirs, bool):
        assert isinstance(ours, bool), f"{at}: {ours!r}"
    elif isinstance(theirs, int | float):
        assert isinstance(ours, int | float) and not isinstance(ours, bool), f"{at}: {ours!r}"
    else:
        assert isinstance(ours, str), f"{at}: {ours!r}"
