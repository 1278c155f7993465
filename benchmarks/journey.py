"""The two minutes of a new user: from the command to a corrected, exported track of one's own video, in a browser.

    python benchmarks/journey.py [--video FILE --box X1,Y1,X2,Y2] [--pause 2]

Starts `python -m apps run` on an empty folder and goes through the page by pointer and keys only: upload, draw, track, look at
the most doubtful frame, correct it there, track on from the correction, export, and opens what came out with the SDK. `--pause`
seconds go by before each step, as a person looks where to click. While tracking runs it notes how far behind the progress the
figures in the page are. Without a video a scene with known truth is drawn (1280 x 720, ten seconds). Needs a Chromium.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from common.evaluation.scenes import random_scene  # noqa: E402
from common.video.writer import VideoWriter  # noqa: E402
from tests import chromium  # noqa: E402
from tests.apps.workbench.annotator.browser import wait  # noqa: E402
from tests.apps.workbench.harness import free_port  # noqa: E402

TRACKED = "[...annotator.S.codes.values()][0]?.reduce((n, code) => n + (code !== 0), 0) ?? 0"
PROGRESS = "document.querySelector('[aria-label=\"Tracking progress\"]')?.value ?? null"


Box = tuple[float, float, float, float]
"""Left, top, right, bottom; edges in pixels."""


class Journey:
    """One way through the page, and when each step of it was done."""

    def __init__(self, page: Page, address: str, pause: float) -> None:
        self.page, self.address, self.pause = page, address, pause
        self.began = time.monotonic()

    def step(self, what: str, do: Callable[[], Any]) -> None:
        time.sleep(self.pause)
        do()
        print(f"{time.monotonic() - self.began:7.1f} s  {what}", flush=True)

    def until(self, expression: str) -> None:
        wait(lambda: self.page.evaluate(f"() => Boolean({expression})"), expression)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        (x, y), (u, v) = (self.page.evaluate("([x, y]) => annotator.toScreen(x, y)", list(at)) for at in (start, end))
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(u, v, steps=10)
        self.page.mouse.up()

    def open(self) -> None:
        wait(lambda: _answers(self.address), "the start")
        self.page.goto(self.address)
        self.until("window.annotator?.S.video || document.querySelector('dialog[open]')")

    def upload(self, video: Path) -> None:
        if not self.page.locator("dialog").count():
            self.page.get_by_role("button", name="Open or upload a video", exact=True).click()
        self.page.get_by_label("Video file").set_input_files(video)
        self.until(f"annotator.S.video?.name === '{video.name}' && annotator.view.shown === 0")

    def draw(self, box: Box) -> None:
        self.page.keyboard.press("b")
        self.drag((box[0], box[1]), (box[2], box[3]))
        self.until("annotator.S.objects.size === 1 || document.querySelector('dialog[open]')")
        if self.page.locator("dialog").count():
            self.page.get_by_label("Name", exact=True).fill("thing")
            self.page.get_by_role("button", name="Create class", exact=True).click()
        self.until("annotator.S.objects.size === 1 && annotator.T.apps.some((app) => app.autoTrack && app.ready)")

    def track(self) -> None:
        """Till all is tracked; tells when the page showed how many tracked figures."""
        self.page.keyboard.press("t")
        began, seen = time.monotonic(), []
        self.page.get_by_role("progressbar", name="Tracking progress").wait_for()
        while self.page.evaluate("annotator.S.tracks.size"):
            row = (self.page.evaluate(PROGRESS), self.page.evaluate(TRACKED))
            if not seen or seen[-1][1:] != row:
                seen.append((time.monotonic() - began, *row))
            time.sleep(0.1)
        seen.append((time.monotonic() - began, None, self.page.evaluate(TRACKED)))
        for at, progress, figures in seen:
            print(f"             {at:5.1f} s after T: progress {progress}, figures in the page {figures}")

    def doubt(self) -> None:
        self.page.keyboard.press("Home")
        self.page.keyboard.press("n")
        self.until("annotator.view.shown > 0")

    def correct(self, truth: Callable[[int], Box | None]) -> None:
        """Both corners of the box are dragged to where they belong; a box that is right is left alone."""
        frame, video = (int(self.page.evaluate(f"annotator.{what}")) for what in ("view.shown", "S.video.id"))
        shown = self.page.evaluate(
            "([v, f]) => fetch(`/workbench/annotator/videos/${v}/figures?first=${f}&last=${f}`).then((r) => r.json())",
            [video, frame],
        )["figures"]
        right = truth(frame)
        print(f"             the most doubtful frame is {frame}: shown {[f['geometry'] for f in shown]}, right {right}")
        if right is None or not shown:
            return
        (x, y), (u, v) = shown[0]["geometry"]["points"]["exterior"]
        self.drag((u + 1, v + 1), (right[2], right[3]))
        time.sleep(self.pause)
        self.drag((x, y), (right[0], right[1]))
        self.until(f"[...annotator.S.codes.values()][0][{frame}] === 1")

    def export(self, folder: Path, video: Path) -> None:
        import supervisely as sly

        self.page.get_by_role("button", name="Export labels", exact=True).click()
        with self.page.expect_download() as download:
            self.page.locator("[data-format=supervisely]").click()
        download.value.save_as(folder / "labels.zip")
        zipfile.ZipFile(folder / "labels.zip").extractall(folder / "out")
        project = sly.VideoProject(str(folder / "out" / "project"), sly.OpenMode.READ)
        (dataset,) = project.datasets
        annotation = dataset.get_ann(video.name, project.meta, sly.KeyIdMap())
        print(f"             the SDK reads {sum(len(f.figures) for f in annotation.frames)} figures")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--box", default="")
    parser.add_argument("--pause", type=float, default=2.0)
    asked = parser.parse_args()
    if chromium.find() is None:
        print("No Chromium on this machine; nothing is measured.")
        return 0
    with tempfile.TemporaryDirectory() as name, chromium.launched() as browser:
        folder = Path(name)
        if asked.video is None:
            video, truth = _scene(folder)
            box = truth(0)
        else:
            video, truth = asked.video, lambda frame: None
            left, top, right, bottom = (float(v) for v in asked.box.split(","))
            box = (left, top, right, bottom)
        assert box is not None
        port = free_port()
        began = time.monotonic()
        suite = subprocess.Popen(
            [sys.executable, "-m", "apps", "run", "--no-browser", "--port", str(port), "--data", str(folder / "data")],
            cwd=ROOT, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            journey = Journey(page, f"http://127.0.0.1:{port}", asked.pause)
            journey.began = began
            journey.step("the suite answers, the page is open", journey.open)
            journey.step(f"{video.name} is uploaded and shown", lambda: journey.upload(video))
            journey.step("an object is boxed", lambda: journey.draw(box))
            journey.step("it is tracked through the video", journey.track)
            journey.step("the most doubtful frame is looked at", journey.doubt)
            journey.step("it is corrected", lambda: journey.correct(truth))
            journey.step("tracked on from the correction", journey.track)
            journey.step("exported, and read with the SDK", lambda: journey.export(folder, video))
            page.close()
            if errors:
                print("errors in the page:", *errors, sep="\n  ")
        finally:
            suite.send_signal(signal.SIGINT)
            suite.wait(60)
    return 0


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/livez", timeout=2).ok
    except requests.RequestException:
        return False


def _scene(folder: Path) -> tuple[Path, Callable[[int], Box | None]]:
    """A video, and where its clearest object is in each frame."""
    scene = random_scene(77, frames=250, width=1280, height=720)
    path = folder / "mine.mp4"
    with VideoWriter(path, scene.width, scene.height, scene.fps) as writer:
        for image in scene.source().stream(0, scene.frames):
            writer.write(image)
    subject = max(scene.truth(0).objects, key=lambda o: o.visible_fraction * (o.mask.sum() > 2000)).key

    def truth(frame: int) -> Box | None:
        box = scene.truth(frame)[subject].box
        if box is None:
            return None
        left, top, right, bottom = box.xyxy.tolist()
        return left, top, right, bottom

    return path, truth


if __name__ == "__main__":
    sys.exit(main())
