"""Identities of a whole video, repaired; looked at from its end as well when the journal has what that needs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.association.contract import Affine, Tracks
from common.association.offline.backward import run_backward
from common.association.offline.both_ways import both_ways
from common.association.offline.decisions import Repaired
from common.association.offline.repair import RepairSettings, repair
from common.association.reid.bank import LooksBank
from common.errors import Interrupted
from common.geometry.detections import Detections
from common.prediction.journal import Journal
from common.prediction.settings import PredictionSettings
from common.video.contract import VideoInfo


def mended(
    journal: Journal, settings: PredictionSettings, info: VideoInfo, stop: threading.Event | None = None
) -> Repaired:
    """Repair of a finished journal's rows. Those of a journal without all detections (see `Journal.keeps_all`) are repaired
    as the run forward left them. Memory: some hundred bytes a box, and one vector of looks for each identity."""
    fps = info.fps or 30.0
    tracks, motions = journal.tracks(), journal.motions()
    looks: Mapping[int, NDArray[np.floating]] = journal.looks()
    if settings.both_ends and len(tracks) and journal.keeps_all:
        tracks = _from_both_ends(journal, tracks, settings, info.fps, motions, stop)
        looks = _looks(tracks, _watched(journal.seen(), stop))
    return repair(
        tracks,
        RepairSettings(
            fps=fps,
            step=settings.every,
            flicker_score=settings.thresholds.brief,
            people=journal.most_of_people,
        ),
        size=(info.width, info.height),
        span=(0, info.frames - 1),
        motions=motions,
        looks=looks or None,
    )


def _from_both_ends(
    journal: Journal,
    forward: Tracks,
    settings: PredictionSettings,
    fps: float,
    motions: Mapping[int, Affine],
    stop: threading.Event | None,
) -> Tracks:
    people = journal.most_of_people
    backward = run_backward(
        settings.tracker,
        replace(settings.association(fps), first_id=people + 1),
        _watched(journal.seen(backward=True), stop),
        motions,
        journal.people if people else None,
    )
    return both_ways(forward, backward, fps or 30.0, settings.every, motions, people=people)


def _looks(tracks: Tracks, seen: Iterable[tuple[int, Detections]]) -> dict[int, NDArray[np.float64]]:
    """Of each identity, from all its detections."""
    bank = LooksBank()
    for frame, detections in seen:
        low, high = np.searchsorted(tracks.frames, (frame, frame + 1))
        bank.add(tracks.keep(np.arange(low, high)), frame, detections)
    return bank.looks()


def _watched(seen: Iterator[tuple[int, Detections]], stop: threading.Event | None) -> Iterator[tuple[int, Detections]]:
    for one in seen:
        if stop is not None and stop.is_set():
            raise Interrupted("The repair was stopped; what was found is kept.")
        yield one
