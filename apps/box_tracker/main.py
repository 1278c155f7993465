"""The app that tracks boxes and oriented boxes: `python -m uvicorn apps.box_tracker.main:app`. Configured by environment variables."""

from __future__ import annotations

from pathlib import Path

from common.serving.app import create_app
from common.serving.settings import TrackerApp

CONFIG = Path(__file__).with_name("config.json")

app = create_app(TrackerApp.from_config(CONFIG))
