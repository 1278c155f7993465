"""The app that tracks masks, and the smart tool: `python -m uvicorn apps.mask_tracker.main:app`. Configured by environment variables."""

from __future__ import annotations

from pathlib import Path

from common.serving.app import create_app
from common.serving.settings import TrackerApp
from common.serving.smart_sam2 import Preferred

CONFIG = Path(__file__).with_name("config.json")

app = create_app(TrackerApp.from_config(CONFIG, segmenter=Preferred()))
