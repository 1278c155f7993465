"""A headless Chromium on the annotator, and the workbench behind it as a process that tests may kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import requests
from playwright.sync_api import Page

ROOT = Path(__file__).parents[4]
PATIENCE_S = 90.0
"""For a machine that is busy with other tests; nothing is slow on an idle one."""


def wait(done: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := done()):
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.03)
    return found


def write_clip(path: Path, frames: int, width: int, height: int, seed: int) -> Path:
    """H.264. A patterned square moves (see `square`); the frame's number stands at the top left, as eight black
    or white blocks of an eighth of the width each, the lowest bit first."""
    random = np.random.default_rng(seed)
    ground = np.kron(random.integers(60, 120, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    side = height // 5
    pattern = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((side // 4, side // 4, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "18", "g": "30"}
        for index in range(frames):
            image = ground.copy()
            x, y = square(index, width, height)
            image[y : y + len(pattern), x : x + len(pattern)] = pattern
            for bit in range(8):
                image[: height // 12, bit * width // 8 : (bit + 1) * width // 8] = 255 * (index >> bit & 1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def square(index: int, width: int, height: int) -> tuple[int, int]:
    """Top left corner of the square in a frame: to the right by two pixels a frame, and back from the middle."""
    reach = width // 2
    return width // 8 + reach - abs(2 * index % (2 * reach) - reach), height // 2


class Bench:
    """The workbench with Auto Track, as a process. Address and data folder stay when it is started again."""

    def __init__(self, data: Path, port: int) -> None:
        self.data, self.address = data, f"http://127.0.0.1:{port}"
        self._command = [
            sys.executable, "-m", "apps.workbench", "--data", str(data), "--port", str(port),
            "--app", str(ROOT / "apps" / "auto_track"),
        ]  # fmt: skip
        self._orphans: list[psutil.Process] = []
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(self._answers, "the workbench's start", 4 * PATIENCE_S)
        except BaseException:
            self.stop()  # nobody else would
            raise

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the workbench ended"
        try:
            return requests.get(f"{self.address}/livez", timeout=5).ok
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """As a power cut would: the workbench only, its apps live on."""
        self._orphans += psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        children = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for child in [*children, *self._orphans]:
            if child.is_running():
                child.kill()

    @property
    def pid(self) -> int:
        """Of the workbench; its apps are processes below it."""
        return self._process.pid

    @property
    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    def call(self, method: str, **body: Any) -> Any:
        reply = requests.post(
            f"{self.address}/public/api/v3/{method}", json=body, headers={"x-api-key": self.token}, timeout=60
        )
        assert reply.ok, reply.text
        return reply.json()

    def own(self, verb: str, path: str, **kwargs: Any) -> Any:
        headers = {"x-api-key": self.token}
        reply = requests.request(verb, f"{self.address}/workbench/{path}", headers=headers, timeout=60, **kwargs)
        assert reply.ok, reply.text
        return reply.json()

    def upload(self, path: Path, name: str | None = None) -> int:
        ident = self.own("POST", "annotator/uploads", json={"size": path.stat().st_size})["id"]
        self.own("PUT", f"annotator/uploads/{ident}?offset=0", data=path.read_bytes())
        return int(self.own("POST", f"annotator/uploads/{ident}/video", json={"name": name or path.name})["id"])

    def figures(self, video_id: int, first: int = 0, last: int = 10_000) -> list[dict[str, Any]]:
        return self.own("GET", f"annotator/videos/{video_id}/figures?first={first}&last={last}")["figures"]

    def objects(self, video_id: int) -> list[dict[str, Any]]:
        return self.own("GET", f"annotator/videos/{video_id}")["objects"]

    def add_class(self, video_id: int, name: str, shape: str = "any") -> int:
        project = self.own("GET", f"annotator/videos/{video_id}")["video"]["projectId"]
        body = {"name": name, "shape": shape, "color": "#4da3ff"}
        known = [c for c in self.own("GET", f"annotator/videos/{video_id}")["classes"] if c["name"] == name]
        made = known or self.own("POST", f"annotator/projects/{project}/classes", json=body)
        return int(next(c["id"] for c in made if c["name"] == name))

    def apply(self, video_id: int, *changes: dict[str, Any]) -> list[list[int]]:
        return self.own("POST", f"annotator/videos/{video_id}/apply", json={"label": "test", "changes": changes})[
            "made"
        ]

    def add_box(self, video_id: int, class_id: int, frame: int, left: int, top: int, right: int, bottom: int) -> int:
        """The id of a new object with a box."""
        geometry = {"points": {"exterior": [[left, top], [right, bottom]], "interior": []}}
        figure = {"op": "add_figure", "objectId": -1, "frame": frame, "geometryType": "rectangle", "geometry": geometry}
        return self.apply(video_id, {"op": "add_object", "classId": class_id}, figure)[0][0]


class Screen:
    """The page as a person uses it: by pointer, keys and the names of controls."""

    def __init__(self, page: Page, bench: Bench) -> None:
        self.page, self.bench = page, bench
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, video_id: int, frame: int = 0) -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.bench.address}/#video={video_id}&frame={frame}")
        self.until(f"window.annotator?.S.video?.id === {video_id} && annotator.view.shown === {frame}")
        self.until("annotator.S.chunks.get(Math.floor(annotator.S.frame / 32))?.byFrame !== undefined")

    def get(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def until(self, expression: str) -> None:
        """Polled from here: the page's own policy forbids what Playwright's waiting does."""
        wait(lambda: self.page.evaluate(f"Boolean({expression})"), expression)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the picture is on the screen."""
        found = self.page.evaluate("([x, y]) => annotator.toScreen(x, y)", [x, y])
        return found[0], found[1]

    def click(self, x: float, y: float, **kwargs: Any) -> None:
        self.page.mouse.click(*self.at(x, y), **kwargs)

    def drag(self, *path: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*path[0]))
        mouse.down()
        for place in path[1:]:
            mouse.move(*self.at(*place), steps=4)
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, frame: int) -> None:
        field = self.page.get_by_label("Frame", exact=True).first
        field.fill(str(frame))
        field.press("Enter")
        self.until(f"annotator.view.shown === {frame}")
        self.until(f"annotator.S.chunks.get(Math.floor({frame} / 32))?.byFrame !== undefined")

    def button(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def new_class(self, name: str) -> None:
        """Answers the question for the class of a first object."""
        self.page.get_by_label("Name", exact=True).fill(name)
        self.button("Create class")

    def number_seen(self) -> int:
        """The frame's number, read from the pixels on the stage."""
        script = """() => {
          const stage = document.getElementById("stage"), { view, S } = annotator, ratio = devicePixelRatio;
          const context = stage.getContext("2d"), { width, height } = S.video;
          let number = 0;
          for (let bit = 0; bit < 8; bit++) {
            const x = (view.x + ((bit + 0.5) * width) / 8 * view.scale) * ratio, y = (view.y + (height / 24) * view.scale) * ratio;
            if (context.getImageData(Math.round(x), Math.round(y), 1, 1).data[0] > 127) number += 2 ** bit;
          }
          return number;
        }"""
        return int(self.page.evaluate(script))
