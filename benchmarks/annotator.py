"""How fast the annotator goes from frame to frame on a 1080p clip: in the browser, from the key to the picture on the screen.

    python benchmarks/annotator.py [--frames 300] [--steps 200]

Steps are keys held down (one frame each, as fast as pictures come), and jumps to places all over the clip; once with nothing
else going on and once while four objects are tracked. Needs a Chromium; says so when there is none.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.apps.workbench.annotator.browser import (  # noqa: E402
    FLAGS,
    Bench,
    Screen,
    find_chromium,
    square,
    wait,
    write_clip,
)
from tests.apps.workbench.harness import free_port  # noqa: E402

SIZE = (1920, 1080)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    path = find_chromium()
    if path is None:
        print("No Chromium on this machine; nothing is measured.")
        return 0
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        clip = write_clip(Path(folder) / "clip.mp4", asked.frames, *SIZE, 1)
        bench = Bench(Path(folder) / "data", free_port())
        try:
            video = bench.upload(clip)
            wait(lambda: any(a["autoTrack"] and a["ready"] for a in bench.own("GET", "annotator/apps")), "Auto Track")
            browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            screen = Screen(page, bench)
            screen.open(video)
            print(f"{'1080p, ms from key to picture':34} {'median':>8} {'p95':>8} {'steps':>6}")
            report("stepping", step(page, asked.steps))
            report("jumping", jump(page, asked.frames, asked.steps // 4))
            kind = bench.add_class(video, "thing")
            x, y = square(0, *SIZE)
            for n in range(4):
                bench.add_box(video, kind, 0, x + n, y + n, x + 215, y + 215)
            screen.open(video)
            screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
            screen.press("t")
            wait(lambda: len(bench.figures(video)) > 8, "tracking")
            taken = step(page, asked.steps)
            report(
                "stepping while tracking runs" + ("" if page.evaluate("annotator.S.tracks.size") else " (it ended)"),
                taken,
            )
            browser.close()
        finally:
            bench.stop()
    return 0


def step(page: Page, steps: int) -> list[float]:
    """One frame after the other, each as soon as the last is shown."""
    script = """async (steps) => {
      const { view, S, goTo } = annotator, taken = [];
      goTo(0, { step: 1 });
      while (view.shown !== 0) await new Promise(requestAnimationFrame);
      for (let n = 1; n <= steps && S.frame < S.video.frames - 1; n++) {
        const began = performance.now(), to = S.frame + 1;
        goTo(to, { step: 1 });
        while (view.shown !== to) await new Promise((done) => setTimeout(done, 1));
        await new Promise(requestAnimationFrame);
        taken.push(performance.now() - began);
      }
      return taken;
    }"""
    return list(page.evaluate(script, steps))


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


def report(what: str, taken: list[float]) -> None:
    ordered = sorted(taken)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    print(f"{what:34} {statistics.median(ordered):8.1f} {p95:8.1f} {len(ordered):6}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
