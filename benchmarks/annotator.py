"""How fast the annotator goes from frame to frame on a 1080p clip: in the browser, from the key to the picture on the screen.

    python benchmarks/annotator.py [--frames 400] [--steps 190]

Steps are keys held down (one frame each, as fast as pictures come), jumps to places all over the clip, and the playhead dragged
along; steps once more while four objects are tracked. Needs a Chromium; says so when there is none.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import chromium  # noqa: E402
from tests.apps.workbench.annotator.browser import Bench, Screen, square, wait, write_clip  # noqa: E402
from tests.apps.workbench.harness import free_port  # noqa: E402

SIZE = (1920, 1080)
WINDOWS = ((1280, 720), (1920, 1080))
"""Of the browser: the larger, the larger the pictures that are sent and drawn."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--steps", type=int, default=190)
    asked = parser.parse_args()
    if chromium.find() is None:
        print("No Chromium on this machine; nothing is measured.")
        return 0
    with tempfile.TemporaryDirectory() as folder, chromium.launched() as browser:
        clip = write_clip(Path(folder) / "clip.mp4", asked.frames, *SIZE, 1)
        bench = Bench(Path(folder) / "data", free_port())
        try:
            video = bench.upload(clip)
            wait(lambda: any(a["autoTrack"] and a["ready"] for a in bench.own("GET", "annotator/apps")), "Auto Track")
            for window in WINDOWS:
                page = browser.new_page(viewport={"width": window[0], "height": window[1]})
                measure(page, bench, video, asked.frames, asked.steps)
                page.close()
        finally:
            bench.stop()
    return 0


def measure(page: Page, bench: Bench, video: int, frames: int, steps: int) -> None:
    screen = Screen(page, bench)
    screen.open(video)
    size = page.viewport_size
    assert size is not None
    title = f"1080p in a window of {size['width']} x {size['height']}"
    print(f"{title:34} {'median':>8} {'p95':>8} {'steps':>6} {'CPU ms a step: workbench':>25} {'browser':>8}")
    half = frames // 2  # the other half is still to be decoded when tracking runs
    report("stepping", bench, lambda: step(page, 0, min(steps, half - 10)))
    report("jumping", bench, lambda: jump(page, half, steps // 4))
    report("dragging, ms between pictures", bench, lambda: drag(page, half))
    kind = bench.add_class(video, "thing")
    x, y = square(0, *SIZE)
    ids = [bench.add_box(video, kind, 0, x + n, y + n, x + 215, y + 215) for n in range(4)]
    screen.open(video)
    screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    before = len(bench.figures(video))
    screen.press("t")
    wait(lambda: len(bench.figures(video)) > before + 4, "tracking")
    report("stepping while tracking runs", bench, lambda: step(page, half + 10, steps))
    if not page.evaluate("annotator.S.tracks.size"):
        print("(it ended before the last step)")
    screen.press("x")
    screen.until("annotator.S.tracks.size === 0")
    bench.apply(video, {"op": "remove_objects", "ids": ids})


def step(page: Page, first: int, steps: int) -> list[float]:
    """One frame after the other, each as soon as the last is shown."""
    script = """async ([first, steps]) => {
      const { view, S, goTo } = annotator, taken = [];
      goTo(first, { step: 1 });
      while (view.shown !== first) await new Promise(requestAnimationFrame);
      for (let n = 1; n <= steps && S.frame < S.video.frames - 1; n++) {
        const began = performance.now(), to = S.frame + 1;
        goTo(to, { step: 1 });
        while (view.shown !== to) await new Promise((done) => setTimeout(done, 1));
        await new Promise(requestAnimationFrame);
        taken.push(performance.now() - began);
      }
      return taken;
    }"""
    return list(page.evaluate(script, [first, steps]))


def jump(page: Page, frames: int, jumps: int) -> list[float]:
    places = random.Random(0).sample(range(frames), min(jumps, frames))
    script = """async (places) => {
      const { view, goTo } = annotator, taken = [];
      for (const to of places) {
        if (view.shown === to) continue;
        const began = performance.now();
        goTo(to);
        while (view.shown !== to) await new Promise((done) => setTimeout(done, 1));
        await new Promise(requestAnimationFrame);
        taken.push(performance.now() - began);
      }
      return taken;
    }"""
    return list(page.evaluate(script, places))


def drag(page: Page, frames: int, seconds: float = 4.0) -> list[float]:
    """Back and forth along the timeline by three frames at every refresh; the time from each new picture to the next."""
    script = """async ([frames, seconds]) => {
      const { view, goTo } = annotator, times = [], last = frames - 1, began = performance.now();
      let frame = 0, by = 3, seen = view.shown;
      while (performance.now() - began < seconds * 1000) {
        await new Promise(requestAnimationFrame);
        if (view.shown !== seen) { times.push(performance.now()); seen = view.shown; }
        if (frame + by > last || frame + by < 0) by = -by;
        goTo((frame += by));
      }
      return times.slice(1).map((time, n) => time - times[n]);
    }"""
    return list(page.evaluate(script, [frames, seconds]))


def report(what: str, bench: Bench, run: Callable[[], list[float]]) -> None:
    before = spent(bench)
    taken = run()
    workbench, browser = (1000 * (b - a) / max(1, len(taken)) for a, b in zip(before, spent(bench), strict=True))
    ordered = sorted(taken)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    median = statistics.median(ordered)
    print(f"{what:34} {median:8.1f} {p95:8.1f} {len(ordered):6} {workbench:25.1f} {browser:8.1f}", flush=True)


def spent(bench: Bench) -> tuple[float, float]:
    """CPU seconds of the workbench's own process and of the browser's, so far: these hardly depend on what else runs."""
    browsers = [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]
    return cpu([psutil.Process(bench.pid)]), cpu(browsers)


def cpu(processes: list[psutil.Process]) -> float:
    return sum(p.cpu_times().user + p.cpu_times().system for p in processes)


if __name__ == "__main__":
    raise SystemExit(main())
