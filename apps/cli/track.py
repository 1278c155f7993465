"""`track`: label objects once, get them labelled in every other frame."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, cast

import typer

from apps.cli.job import TrackJob, choose_trackers, run_job
from apps.cli.progress import Reporter
from apps.cli.prompts import PromptFlags, gather
from common.errors import EngineUnavailable, WeightsMissing
from common.trackers import registry
from common.tracking.plan import Direction
from common.video.reader import open_source
from common.weights.options import SEEDED, Device, EngineOptions


def track(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.", show_default=False)],
    prompts: Annotated[
        Path | None,
        typer.Option(help="A Supervisely video annotation with the objects' key figures.", show_default=False),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="x1,y1,x2,y2[@frame]", help="A box; repeat for more.", show_default=False),
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option(metavar="FILE.png[@frame]", help="A mask; repeat for more.", show_default=False)
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(metavar="x,y[@frame]", help="A point; repeat for more.", show_default=False)
    ] = None,
    tracker: Annotated[
        str | None, typer.Option(help="A name from `models list`; default: the best one that needs no weights.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames to predict beyond the labelled ones; default: all.")
    ] = None,
    direction: Annotated[Direction, typer.Option(help="Where to track from the labelled frames.")] = Direction.FORWARD,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|seeded", help="Weights file of a network tracker.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where networks run.")] = "auto",
    overlay: Annotated[bool, typer.Option(help="Render overlay.mp4.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> int:
    """Track objects through a video, from boxes, masks, points or an annotation drawn on any frame."""
    source = open_source(video)
    drawn = gather(prompts, PromptFlags(box or (), mask or (), point or ()), source.info)
    trackers = choose_trackers(drawn.key_figures, tracker)
    _check_options(set(trackers.values()), weights, device)
    options = EngineOptions(weights, cast(Device, device))
    job = TrackJob(video, source, drawn, trackers, direction, frames, overlay, options)
    with Reporter(quiet) as reporter:
        if source.info.damage:
            reporter.warn(source.info.damage)
        for kind, count in drawn.skipped.items():
            reporter.warn(f"Figures of type {kind} cannot be tracked; left out: {count}.")
        return run_job(job, out, reporter)


def _check_options(names: Collection[str], weights: str | None, device: str) -> None:
    """Options must be of use to one of the trackers; those that need no network pass over them."""
    cards = [registry.make(name).card for name in sorted(names)]
    those = " and ".join(card.name for card in cards)
    if device not in ("auto", "cpu", "cuda"):
        raise EngineUnavailable(f"--device {device}: choose auto, cpu or cuda.")
    able = sorted({able for card in cards for able in card.devices})
    if device != "auto" and device not in able:
        raise EngineUnavailable(f"{those} runs on {' and '.join(able)} only; leave --device out.")
    if device == "cuda":
        from common.networks.device import resolve_device  # loads PyTorch, which a network needs anyway

        resolve_device(device)
    if weights is None:
        return
    if all(card.weights is None for card in cards):
        raise EngineUnavailable(f"{those} needs no weights; leave --weights out.")
    if weights != SEEDED and not Path(weights).is_file():
        raise WeightsMissing(f"--weights {weights}: there is no such file. Give a checkpoint file, or {SEEDED}.")
