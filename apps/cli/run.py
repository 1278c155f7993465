"""`run`: the whole suite on this machine - workbench, Auto Track, trackers - with a video to try it on."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[2]
APPS = ("auto_track", "box_tracker", "mask_tracker", "point_tracker")
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
    # The web stack takes a second to load; the other commands do without it.
    from apps.cli.demo import write_clip
    from apps.workbench.bench import Workbench
    from apps.workbench.importing import import_video
    from apps.workbench.main import run as serve
    from apps.workbench.settings import Settings
    from apps.workbench.specs import read_spec
    from common.geometry.annotation import read_annotation, read_meta
    from common.video.reader import open_source

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and session tokens are in some
    for video in videos or ():
        open_source(video).close()  # a file that is no video is told before anything starts
    settings = Settings(data.absolute(), port=port)

    def prepare(bench: Workbench) -> None:
        if videos:
            for video in videos:
                import_video(bench, video, "My videos")
        else:
            clip = write_clip(data / "demo")
            labels = clip.parent / "labels"
            import_video(
                bench, clip, "Demo", read_annotation(labels / "annotation.json"), read_meta(labels / "meta.json")
            )
        sys.stderr.write(
            f"The suite runs at {bench.settings.address} - Ctrl-C ends it.\n"
            f"For Supervisely scripts: sly.Api.from_env() after loading {data / 'supervisely.env'}.\n"
        )

    specs = [read_spec(ROOT / "apps" / name, ROOT) for name in APPS]
    serve(settings, specs, APPS, prepare)
    return 0
