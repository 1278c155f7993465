"""People do things in any order while tracking runs; whatever they did, the labels are right in the end."""

from __future__ import annotations

import random
import time
import uuid

import pytest

from apps.auto_track.ranges import subtract, union
from apps.auto_track.updates import FiguresRemoved, KeyChanged, TagsChanged, TrackContext
from common.serving.access import Caller, normalised
from tests.apps.auto_track.conftest import FRAMES, Auto, Lab, box_json, wait_until


@pytest.mark.parametrize("seed", range(2))
def test_any_order_of_edits_ends_well(auto: Auto, lab: Lab, seed: int) -> None:
    dice = random.Random(seed)
    tracks, rail = auto.service.tracks, auto.rail
    rail.delay_s = 0.002
    rail.shift = 1.0
    caller = Caller(normalised(lab.served.settings.address), lab.served.bench.token)
    ident, track = lab.object(), str(uuid.uuid4())
    drawn: dict[int, tuple[int, int]] = {}  # frame: figure, left
    forward: list[tuple[int, int]] = []
    removed: tuple[tuple[int, int], ...] = ()
    absent: list[tuple[int, int]] = []

    def ask(frame: int, frames: int) -> None:
        nonlocal removed
        context = {"trackId": track, "videoId": lab.video_id, "objectIds": [ident], "frameIndex": frame}
        asked = {**context, "frames": frames, "detectOffScreen": False}
        tracks.track(TrackContext.model_validate(asked), caller)
        forward.append((frame, min(frame + frames, FRAMES - 1)))
        removed = subtract(removed, forward[-1:])

    def draw(frame: int, left: int) -> None:
        if frame in drawn:
            figure = drawn[frame][0]
            reply = lab.served.call("figures.editInfo", {"id": figure, "geometry": box_json(left)})
            assert reply.status_code == 200
        else:
            figure = lab.box(ident, frame, left)
        drawn[frame] = figure, left

    draw(0, 20)
    ask(0, 20)
    for _ in range(14):
        time.sleep(dice.random() * 0.05)
        match dice.choice(["draw", "draw", "delete", "continue", "tag", "remove", "silent"]):
            case "draw":
                frame = dice.randrange(FRAMES)
                draw(frame, dice.randrange(0, 100))
                ask(frame, dice.randrange(1, 12))
            case "silent":  # nobody tells; only frames that will be tracked over anyway
                frame = dice.randrange(1, FRAMES)
                draw(frame, dice.randrange(0, 100))
                tracks.tell(KeyChanged(ident, frame))
            case "delete" if len(drawn) > 1:
                frame = dice.choice(sorted(drawn)[1:])
                lab.remove(drawn.pop(frame)[0])
                tracks.tell(KeyChanged(ident, frame))
            case "continue":
                frame = dice.choice(forward)[1]
                ask(0, min(frame + 5, FRAMES - 1))
            case "tag" if not absent:
                first = dice.randrange(5, FRAMES - 3)
                absent.append((first, first + 2))
                lab.no_objects(ident, first, first + 2)
                tracks.tell(TagsChanged(ident))
            case "remove":
                first = dice.randrange(3, FRAMES - 2)
                gone = [f for f in drawn if first <= f <= first + 1]
                for frame in gone:
                    lab.remove(drawn.pop(frame)[0])
                removed = union(removed, [(first, first + 1)])
                tracks.tell(FiguresRemoved(ident, (first, first + 1)))
    wait_until(lambda: len(tracks) == 0, 40, every_s=0.1)
    assert lab.errors(track) == []
    figures = lab.figures(ident)
    people = {frame: left for frame, (_, left) in drawn.items()}
    for frame, left in people.items():
        (one,) = figures[frame]
        assert one["geometry"]["points"]["exterior"][0][0] == left, f"the figure on frame {frame} was changed"
    assert all(len(found) == 1 for found in figures.values())
    wanted = {
        f
        for first, last in subtract(union(forward), union(absent, removed))
        for f in range(first, last + 1)
        if any(first <= key <= f for key in drawn) or any(f <= key <= last for key in drawn)
    }
    must = set()
    for first, last in subtract(union(forward), union(absent, removed)):
        keys = [key for key in drawn if first <= key <= last]
        if keys:
            must |= set(range(min(keys), last + 1))
    assert must <= set(figures)
    assert set(figures) <= wanted | set(drawn)
