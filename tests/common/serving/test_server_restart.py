"""The instance goes away in the middle of a track and comes back: the job lasts, and nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

from apps.workbench.settings import Settings
from tests.apps.workbench.harness import Running, free_port
from tests.common.serving.stage import AppRunning, Stage, new_track, wait_until
from tests.common.serving.toys import Drift

FRAMES = 30


def test_a_track_outlives_a_restart_of_the_server(clip: Path, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "bench", port=free_port())
    drift, track = Drift(delay_s=0.05), new_track()
    first = Running(settings)
    served = first.__enter__()
    try:
        stage = Stage(served, clip)
        drawn = stage.draw("rectangle")
        app = AppRunning(served, tmp_path / "app", tracker=drift)
        client = app.__enter__()
        client.track(stage, [drawn], track, frames=FRAMES)
        wait_until(lambda: bool(stage.figures([drawn[0]], track)))
    finally:
        first.__exit__()
    try:
        pushed = drift.pushed
        assert pushed < FRAMES
        wait_until(lambda: drift.pushed > pushed)  # the tracker works on while nobody takes its frames
        with Running(settings):
            wait_until(lambda: client.get("jobs").json()["running"] == 0, 30)
            found = stage.figures([drawn[0]], track)
            assert sorted(f["meta"]["frame"] for f in found) == list(range(1, FRAMES + 1))
            told = stage.progress(track)
            assert told[-1]["progress"] == {"current": FRAMES, "total": FRAMES}
            assert not [n for n in stage.notices(track) if n["type"] == "videos:tracking-error"]
    finally:
        app.__exit__()
