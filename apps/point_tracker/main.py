"""The app that tracks points, lines, polygons and skeletons: `python -m uvicorn apps.point_tracker.main:app`. Configured by environment variables."""

from __future__ import annotations

from pathlib import Path

from common.serving.app import create_app
from common.serving.settings import TrackerApp

CONFIG = Path(__file__).with_name("config.json")

app = create_app(TrackerApp.from_config(CONFIG))
