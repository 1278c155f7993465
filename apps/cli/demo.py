"""`demo`: the main job with nothing to prepare, on a clip made by code or on one's own video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apps.cli.demo_clip import write_clip
from apps.cli.progress import Reporter
from apps.cli.track import track
from common.video.reader import open_source


def demo(
    video: Annotated[
        Path | None, typer.Argument(metavar="[VIDEO]", help="Your own video; default: a made-up clip.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="x1,y1,x2,y2[@frame]", help="What to track; default: the middle of the picture."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> int:
    """Track the demonstration clip, or a box in your own video, with the built-in trackers."""
    prompts: Path | None = None
    with Reporter(quiet) as reporter:
        if video is None:
            video = write_clip(out)
            prompts = out / "labels" / "annotation.json" if box is None else None
        elif box is None:
            info = open_source(video).info
            x, y = info.width / 4, info.height / 4
            box = f"{x:.0f},{y:.0f},{3 * x:.0f},{3 * y:.0f}"
            reporter.warn(f"No BOX was given: tracking the middle of the picture, BOX={box}.")
    return track(video, out, prompts=prompts, box=[box] if box else None, quiet=quiet)
