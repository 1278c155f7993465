"""The app that serves a detector: `python -m uvicorn apps.detector.main:app`. Configured by environment variables."""

from __future__ import annotations

from pathlib import Path

from common.serving.detection_app import create_detector_app

CONFIG = Path(__file__).with_name("config.json")

app = create_detector_app(CONFIG)
