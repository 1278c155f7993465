"""`run`: the whole suite on this machine - workbench, Auto Track, trackers - with a video to try it on."""

from __future__ import annotations

import logging
import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.demo_clip import Drawing
from common.geometry.annotation import read_annotation, read_meta
from common.video.reader import open_source

if TYPE_CHECKING:
    from apps.workbench.bench import Workbench

ROOT = Path(__file__).parents[2]
APPS = ("auto_track", "box_tracker", "mask_tracker", "point_tracker", "detector", "predict", "labeling_assistant")
"""What runs besides the workbench; each as its own process, watched and restarted by it."""


def run(
    videos: Annotated[list[Path] | None, typer.Argument(metavar="[VIDEO]...", help="Videos to import.")] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the workbench listens; 0 takes a free one.")
    ] = 8000,
    data: Annotated[Path, typer.Option(help="Folder for everything that it keeps.")] = Path("data"),
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> int:
    """Start the suite: no account, no other server, no weights. Ctrl-C ends all of it."""
    for video in videos or ():
        open_source(video).close()  # a file that is no video is told before anything starts
    from apps.workbench.processes import Nursery

    nursery = Nursery("apps.cli.forked")
    nursery.warm()
    drawing = None if videos else Drawing(data / "demo")
    # Takes a second or two, which the others use; the other commands do without the web stack.
    from apps.workbench.main import run as serve
    from apps.workbench.settings import Settings
    from apps.workbench.specs import read_spec

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and session tokens are in some
    specs = [read_spec(ROOT / "apps" / name, ROOT) for name in APPS]
    settings, ready = Settings(data.absolute(), port=port), threading.Event()
    serve(settings, specs, APPS, nursery=nursery, prepare=_importer(videos or (), drawing, browser, ready))
    return 0 if ready.is_set() else 130


def _importer(
    videos: list[Path] | tuple[()], drawing: Drawing | None, browser: bool, ready: threading.Event
) -> Callable[[Workbench, threading.Event], None]:
    """What fills the workbench before it answers its first request, sets `ready` and shows it."""
    from apps.workbench.importing import import_video

    def prepare(bench: Workbench, ending: threading.Event) -> None:
        for video in videos:
            import_video(bench, video, "My videos")
        clip = None if drawing is None else drawing.wait(ending)
        if clip is not None:
            labels = clip.parent / "labels"
            annotation, meta = read_annotation(labels / "annotation.json"), read_meta(labels / "meta.json")
            import_video(bench, clip, "Demo", annotation, meta)
        if ending.is_set():
            return
        ready.set()
        sys.stderr.write(
            f"The suite runs at {bench.settings.address} - open it in a browser; Ctrl-C ends it.\n"
            f"For Supervisely scripts: sly.Api.from_env() after loading {bench.settings.data / 'supervisely.env'}.\n"
        )
        if browser:
            # It listens already, so the browser waits for the page; the page opens the newest video by itself.
            threading.Thread(target=show, args=(bench.settings.address,), name="browser", daemon=True).start()

    return prepare


def show(address: str) -> bool:
    """Opens the browser of the person's desktop; nothing happens where there is none. Whether one was found."""
    # On a machine without a desktop a text browser would be found, which would take the terminal.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return webbrowser.open(address)
