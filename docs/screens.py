"""Makes docs/screens: the annotator in its main states, on the demonstration clip as `make run` opens it.

Usage: .venv/bin/python docs/screens.py    (needs a Chromium; takes about a minute on a quiet machine)
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import requests
from PIL import Image
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import chromium  # noqa: E402
from tests.apps.workbench.annotator.browser import wait  # noqa: E402
from tests.apps.workbench.harness import free_port  # noqa: E402

FOLDER = Path(__file__).with_name("screens")
SIZE = {"width": 1280, "height": 720}
PATIENCE_S = 900.0
"""Five objects are tracked through the whole clip, which a busy machine takes long for."""


def main() -> None:
    with tempfile.TemporaryDirectory() as data, chromium.launched() as browser:
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "apps", "run", "--data", data, "--port", str(port), "--no-browser"]
        suite = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait(lambda: answers(address), "the suite's start", PATIENCE_S)
            page = browser.new_page(viewport=SIZE, color_scheme="dark")
            page.set_default_timeout(PATIENCE_S * 1000)
            page.goto(address)
            walk(page)
            page.close()
        finally:
            suite.terminate()
            suite.wait(60)


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/livez", timeout=5).ok
    except requests.RequestException:
        return False


def walk(page: Page) -> None:
    def until(expression: str) -> None:
        wait(lambda: page.evaluate(f"Boolean({expression})"), expression, PATIENCE_S)

    def at(frame: int) -> None:
        page.get_by_label("Frame", exact=True).first.fill(str(frame))
        page.get_by_label("Frame", exact=True).first.press("Enter")
        until(f"annotator.view.shown === {frame}")

    until("window.annotator?.view.shown === 0 && annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    page.keyboard.press("t")
    until("annotator.S.frame > 45")
    shoot(page, "tracking")
    until("annotator.S.tracks.size === 0")
    page.get_by_role("status").get_by_role("button", name="Review").wait_for()
    shoot(page, "tracked")
    while page.get_by_role("button", name="Close message").count():
        page.get_by_role("button", name="Close message").first.click()
    at(60)
    page.get_by_role("option").nth(1).click()
    shoot(page, "annotator")
    dialog(page, "trackers", lambda: page.get_by_role("button", name="Choose trackers").click())
    dialog(page, "keys", lambda: page.keyboard.press("?"))
    page.get_by_role("button", name="Light or dark").click()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    until("annotator.view.shown === annotator.S.frame && document.querySelector('.doubt.on')")
    shoot(page, "annotator-review")


def dialog(page: Page, name: str, ask: Callable[[], None]) -> None:
    ask()
    page.get_by_role("dialog").wait_for()
    shoot(page, name)
    page.keyboard.press("Escape")


def shoot(page: Page, name: str) -> None:
    page.mouse.move(700, 30)
    page.evaluate(
        "document.querySelector('dialog') ?? document.activeElement.blur()"
    )  # no ring around what was clicked
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.screenshot()))
    # 256 colours: a third of the size, and hardly to be seen
    picture.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
