"""A detector whose answers tell which frame it saw, pictures for it, and a detector app on a port of its own."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import uvicorn
from PIL import Image as Pictures

from common.detection.contract import Detections, Detector, DetectorCard
from common.serving.access import Access
from common.serving.detection_app import create_detector_app
from common.serving.detection_model import Setup
from common.serving.settings import ServingSettings
from common.video.contract import Image
from tests.apps.workbench.harness import Served, free_port
from tests.common.serving.stage import HEIGHT, ROWS, START, WIDTH, Client, wait_until


class BrightDetector:
    """Finds the bright objects of the tests' clip. The upper two are "cars", the lowest is a "dog"; their left edge is
    20 + 2 x frame, so every answer says which frame it is of."""

    card = DetectorCard(
        name="bright",
        title="Bright things",
        classes=("car", "dog"),
        licence="Apache-2.0",
        memory_bound="one picture",
        paper="none",
    )

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.looked = 0

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        found = []
        for image in images:
            time.sleep(self.pause_s)
            self.looked += 1
            mask = (cv2.GaussianBlur(image.mean(2).astype(np.float32), (5, 5), 0) > 115).astype(np.uint8)
            mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            rows = [s for s in stats[1:count] if s[4] > 200]
            boxes = np.array([[s[0], s[1], s[0] + s[2], s[1] + s[3]] for s in rows], np.float32).reshape(-1, 4)
            classes = np.array([int(s[1] > ROWS[2] - 10) for s in rows], np.int64)
            scores = np.where(classes == 1, 0.7, 0.9).astype(np.float32)
            found.append(Detections(boxes, scores, classes))
        return found


def frame_of(left: float) -> int:
    """Which frame an object with that left edge is on, give or take one."""
    return round((left - START[0]) / 2)


def lefts(annotation: dict[str, Any]) -> list[float]:
    return [label["points"]["exterior"][0][0] for label in annotation["objects"]]


def near(a: float, b: float, within: float = 1.01) -> bool:
    return abs(a - b) <= within


def picture(x: int = 40) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    image[ROWS[0] : ROWS[0] + 28, x : x + 36] = 220
    return image


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Pictures.fromarray(image).save(out, "PNG")
    return out.getvalue()


class DetectorRunning:
    """A detector app on a port of its own."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        config: Path,
        make: Callable[[Setup], Detector] | None = None,
        **settings: Any,
    ) -> None:
        self._access = Access(served.settings.address, served.bench.token)
        chosen = replace(ServingSettings(folder, self._access, task_id=7), **settings)
        self.api = create_detector_app(config, Setup("bright"), chosen, make or (lambda _: BrightDetector()))
        self.port = free_port()
        self._server = uvicorn.Server(
            uvicorn.Config(self.api, host="127.0.0.1", port=self.port, log_level="error", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        service = self.api.state.service
        client = Client(f"http://127.0.0.1:{self.port}", self._access.address, self._access.token, service)
        wait_until(lambda: self._server.started or not self._thread.is_alive(), 20)
        wait_until(lambda: client.get("is_ready").status_code == 200, 120)
        return client

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the app did not shut down"
