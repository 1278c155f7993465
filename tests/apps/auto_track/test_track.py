"""A person labels, Auto Track tracks: over HTTP, against a workbench, figures and messages as they end up there."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from common.tracking.plan import MAX_EXEMPLARS
from tests.apps.auto_track.conftest import FRAMES, Auto, Lab, bitmap_json, box_json, points_json, wait_until


def begin(auto: Auto, lab: Lab, objects: list[int], frame: int = 0, frames: int = 10, **more: Any) -> str:
    track = more.pop("trackId", None) or str(uuid.uuid4())
    context = {"trackId": track, "videoId": lab.video_id, "objectIds": objects, "frameIndex": frame, "frames": frames}
    reply = auto.post("track", {**context, "sessionId": "s", **more})
    assert reply.json() == {"message": "Track task started."}
    return track


def test_a_tracker_sees_what_was_drawn_before_and_beyond(auto: Auto, lab: Lab) -> None:
    """Tracked on from a correction: what the object looks like on its other key figures is known, too, and nothing else
    comes of them."""
    ident = lab.object()
    for frame in (2, 8, 20):
        lab.box(ident, frame, 20 + 2 * frame)
    lab.box(ident, 20, 90, trackId="other", nnCreated=True, nnUpdated=True)
    lab.finished(begin(auto, lab, [ident], 8, 6))
    assert auto.rail.starts == [(1, 2)]
    assert {f: len(found) for f, found in lab.figures(ident).items()} == {2: 1, **dict.fromkeys(range(8, 15), 1), 20: 2}


def test_other_numbers_of_figures_are_not_shown(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    for frame, left in ((2, 20), (2, 80), (8, 30), (20, 20)):
        lab.box(ident, frame, left)
    lab.finished(begin(auto, lab, [ident], 8, 6))
    assert auto.rail.starts == [(1, 1)], "on frame 2 it is not known which is which"


def test_far_more_key_figures_behind_do_not_hide_the_one_ahead(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    for frame in (*range(1, 8), 8, 27):
        lab.box(ident, frame, 20 + 2 * frame)
    lab.finished(begin(auto, lab, [ident], 8, 6))
    assert auto.rail.starts == [(1, MAX_EXEMPLARS)]
    assert auto.rail.exemplar_lefts[-1] == 20 + 2 * 27


def test_a_box_is_tracked_forward(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    figure = lab.box(ident, 3, 26)
    track = begin(auto, lab, [ident], 3, 12)
    told = lab.finished(track)
    assert lab.lefts(ident) == {3: 26, **{3 + n: 26 + 2 * n for n in range(1, 13)}}
    assert lab.errors(track) == []
    assert lab.warnings(track) == ""
    for frame, (one,) in lab.figures(ident).items():
        if frame > 3:
            assert (one["trackId"], one["nnCreated"], one["nnUpdated"]) == (track, True, True)
            assert one["meta"]["sourceFigureId"] == figure
    currents = [m["progress"]["current"] for m in told]
    assert currents == sorted(currents)
    assert told[-1]["progress"] == {"current": 12, "total": 12}
    assert told[-1]["frameRange"] == [4, 15]
    assert auto.rail.starts == [(1, 0)]  # one run for the whole tracklet


GEOMETRIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rectangle": ("any", "rectangle", box_json(40)),
    "oriented_bbox": ("any", "oriented_bbox", {"points": [[40, 40], [67, 63]], "angle": 0.0}),
    "bitmap": ("any", "bitmap", bitmap_json(40)),
    "polygon": ("any", "polygon", points_json((40, 40), (67, 40), (67, 63), (40, 63))),
    "point": ("any", "point", points_json((54, 52))),
    "line": ("any", "line", points_json((42, 42), (60, 58), (66, 44))),
    "graph": (
        "pose",
        "graph",
        {"nodes": {n: {"loc": xy} for n, xy in zip("abc", [[44, 44], [60, 50], [50, 60]], strict=True)}},
    ),
}


def left_of(geometry: dict[str, Any]) -> float:
    if "nodes" in geometry:
        return min(node["loc"][0] for node in geometry["nodes"].values())
    if "bitmap" in geometry:
        return geometry["bitmap"]["origin"][0]
    points = geometry["points"]
    return min(x for x, _ in (points if isinstance(points, list) else points["exterior"]))


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_follows_its_object_both_ways(real: Auto, lab: Lab, name: str, direction: str) -> None:
    class_name, kind, geometry = GEOMETRIES[name]
    ident = lab.object(class_name)
    lab.draw(ident, 10, kind, geometry)
    track = begin(real, lab, [ident], 10, 8, direction=direction)
    lab.finished(track)
    assert lab.errors(track) == []
    figures = lab.figures(ident)
    ahead = 1 if direction == "forward" else -1
    assert sorted(figures) == sorted(10 + ahead * n for n in range(9))
    start = left_of(figures[10][0]["geometry"])
    for frame, (one,) in figures.items():
        assert one["geometryType"] == kind
        assert left_of(one["geometry"]) == pytest.approx(start + 2 * (frame - 10), abs=2.5)


def test_both_ways_at_once_and_many_objects_in_one_run(auto: Auto, lab: Lab) -> None:
    idents = [lab.object() for _ in range(3)]
    for ident in idents:
        lab.box(ident, 10, 40)
    track = begin(auto, lab, idents, 10, 5, direction="both", detectOffScreen=False)
    lab.finished(track)
    assert auto.rail.starts == [(3, 0), (3, 0)]
    for ident in idents:
        assert sorted(lab.figures(ident)) == list(range(5, 16))


def test_between_key_figures_both_sides_are_tracked_and_fused(real: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0, 20)
    lab.box(ident, 10, 40)
    track = begin(real, lab, [ident], 0, 14)
    told = lab.finished(track)
    lefts = lab.lefts(ident)
    assert sorted(lefts) == list(range(15))
    for frame, left in lefts.items():
        assert left == pytest.approx(20 + 2 * frame, abs=1.5)
    assert told[-1]["progress"]["total"] == 9 + 9 + 4  # forward and backward between, forward after


def test_the_other_key_figures_are_exemplars_of_every_run(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    for frame in (0, 6, 10):
        lab.box(ident, frame, 20 + 2 * frame)
    track = begin(auto, lab, [ident], 0, 14)
    lab.finished(track)
    assert auto.rail.starts == [(1, 2)] * 5
    assert sorted(lab.figures(ident)) == list(range(15))


def test_a_correction_is_taken_up_at_once(auto: Auto, lab: Lab) -> None:
    ident, other = lab.object(), lab.object()
    lab.box(ident, 0, 20)
    lab.box(other, 0, 20)
    auto.rail.delay_s = 0.05
    track = begin(auto, lab, [ident, other], 0, 20, detectOffScreen=False)
    wait_until(lambda: auto.rail.pushes > 8)
    lab.box(ident, 4, 60)  # a person draws over the prediction
    begin(auto, lab, [ident], 4, 16, trackId=track)
    lab.finished(track)
    lefts = lab.lefts(ident)
    assert lefts[4] == 60
    assert {f: x for f, x in lefts.items() if f > 4} == {4 + n: 60 + 2 * n for n in range(1, 17)}
    assert lab.lefts(other) == {n: 20 + 2 * n for n in range(21)}
    assert sorted(lefts) == list(range(21))


def test_a_figure_drawn_during_inference_survives_without_anybody_telling(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0, 20)
    auto.rail.gate.clear()
    track = begin(auto, lab, [ident], 0, 12, detectOffScreen=False)
    wait_until(auto.rail.entered.is_set)
    drawn = lab.box(ident, 6, 90)
    auto.rail.gate.set()
    lab.finished(track)
    lefts = lab.lefts(ident)
    assert lefts[6] == 90
    assert lab.figures(ident)[6][0]["id"] == drawn
    wait_until(lambda: lab.lefts(ident).get(12) == 102)  # and it is tracked on from there


def test_an_edit_during_inference_is_not_overwritten(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    figure = lab.box(ident, 0, 20)
    auto.rail.gate.clear()
    track = begin(auto, lab, [ident], 0, 6, detectOffScreen=False)
    wait_until(auto.rail.entered.is_set)
    lab.served.call("figures.editInfo", {"id": figure, "geometry": box_json(50)})
    begin(auto, lab, [ident], 0, 6, trackId=track)
    auto.rail.gate.set()
    lab.finished(track)
    wait_until(lambda: lab.lefts(ident) == {n: 50 + 2 * n for n in range(7)})


def test_a_deleted_key_figure_gives_its_frames_to_the_one_before(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0, 20)
    second = lab.box(ident, 5, 80)
    track = begin(auto, lab, [ident], 0, 10)
    lab.finished(track)
    assert lab.lefts(ident)[8] == 86
    lab.remove(second)
    auto.post("manual_objects_removed", {"videoId": lab.video_id, "figures": [{"objectId": ident, "frame": 5}]})
    lab.finished(track, 2)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(11)}


def test_a_deleted_only_key_figure_takes_its_predictions_along(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    only = lab.box(ident, 0, 20)
    track = begin(auto, lab, [ident], 0, 5)
    lab.finished(track)
    lab.remove(only)
    auto.post("manual_objects_removed", {"videoId": lab.video_id, "figures": [{"objectId": ident, "frame": 0}]})
    wait_until(lambda: lab.figures(ident) == {})


def test_no_objects_tags_end_tracking_and_their_removal_takes_it_up_again(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0, 20)
    tag = lab.no_objects(ident, 6, 8)
    track = begin(auto, lab, [ident], 0, 12)
    lab.finished(track)
    assert sorted(lab.figures(ident)) == list(range(6))
    lab.served.call("annotation-objects.tags.remove", {"id": tag})
    removed = {"videoId": lab.video_id, "objectId": ident, "tagId": lab.tags["no-objects"], "frameRange": [6, 8]}
    auto.post("tag_removed", {"tag": removed})
    lab.finished(track, 2)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(13)}
    lab.no_objects(ident, 3, 12)
    auto.post("no_objects_tag_changed", {"videoId": lab.video_id, "objectId": ident})
    wait_until(lambda: sorted(lab.figures(ident)) == [0, 1, 2])


def test_removed_figures_stay_away(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0, 20)
    auto.rail.delay_s = 0.05
    track = begin(auto, lab, [ident], 0, 12)
    wait_until(lambda: auto.rail.pushes >= 8)
    reply = auto.post("objects_removed", {"figures": [{"objectId": ident, "frames": [4, 12]}]})
    assert reply.json() == {"message": "Objects removed."}
    lab.finished(track)
    wait_until(lambda: sorted(lab.figures(ident)) == [0, 1, 2, 3])


def test_a_removed_object_ends_quietly(auto: Auto, lab: Lab) -> None:
    ident, other = lab.object(), lab.object()
    lab.box(ident, 0)
    lab.box(other, 0)
    auto.rail.delay_s = 0.05
    track = begin(auto, lab, [ident, other], 0, 12)
    wait_until(lambda: auto.rail.pushes >= 3)
    lab.served.call("annotation-objects.bulk.remove", [ident])
    auto.post("objects_removed", {"figures": [{"objectId": ident, "frames": [0, 29]}]})
    lab.finished(track)
    assert lab.errors(track) == []
    assert sorted(lab.figures(other)) == list(range(13))


@pytest.mark.parametrize("how", ["request", "reply"])
def test_stop_is_honoured_within_one_frame(auto: Auto, lab: Lab, how: str) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    auto.rail.gate.clear()
    track = begin(auto, lab, [ident], 0, 20)
    wait_until(auto.rail.entered.is_set)
    if how == "request":
        auto.post("stop_tracking", {"trackId": track})
    else:
        lab.served.own("POST", "stop", json={"trackId": track})
        session = auto.service.tracks._sessions[track]
        wait_until(session._stop.is_set)
    pushed = auto.rail.pushes
    auto.rail.gate.set()
    lab.finished(track)
    wait_until(lambda: len(auto.service.tracks) == 0)
    assert auto.rail.pushes == pushed
    assert max(lab.figures(ident)) <= pushed


def test_continue_goes_on_with_the_same_memory(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(auto, lab, [ident], 0, 5)
    lab.finished(track)
    auto.post("continue_track", {"trackId": track, "videoId": lab.video_id, "frameIndex": 5, "frames": 5})
    lab.finished(track, 2)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(11)}
    assert (auto.rail.starts, auto.rail.pushes) == ([(1, 0)], 10)


def test_continue_after_the_session_has_ended_loads_its_memory(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(auto, lab, [ident], 0, 5)
    lab.finished(track)
    wait_until(lambda: len(auto.service.tracks) == 0)
    auto.post("continue_track", {"trackId": track, "videoId": lab.video_id, "frameIndex": 5, "frames": 5})
    lab.finished(track, 2)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(11)}
    assert (auto.rail.starts, auto.rail.pushes) == ([(1, 0)], 10)


def test_an_engine_that_fails_says_nothing_about_the_object(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    auto.rail.fail_on = {4}
    track = begin(auto, lab, [ident], 0, 8)
    lab.finished(track)
    assert "Error during tracking" in lab.warnings(track)
    assert "the toy broke" in lab.warnings(track)
    assert sorted(lab.figures(ident)) == [0, 1, 2, 3]
    auto.rail.fail_on = set()
    begin(auto, lab, [ident], 0, 8, trackId=track)  # asked again, it goes on where it failed
    lab.finished(track, 2)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(9)}


def test_an_object_that_is_away_has_no_figures_and_comes_back(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    auto.rail.away = lambda count: 5 <= count <= 16
    track = begin(auto, lab, [ident], 0, 24)
    lab.finished(track)
    frames = set(lab.figures(ident))
    assert not frames & set(range(5, 17))
    assert 24 in frames
    assert "[Off-Screen Detection]" in lab.warnings(track)


def test_a_running_track_takes_the_check_boxes_of_later_requests(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    auto.rail.hidden = lambda count: 3 <= count <= 10
    track = begin(auto, lab, [ident], 0, 5)
    lab.finished(track)
    assert not set(lab.figures(ident)) & {3, 4, 5}
    more = {"trackId": track, "videoId": lab.video_id, "frameIndex": 5, "frames": 5}
    auto.post("continue_track", more | {"detectOffScreen": False})
    lab.finished(track, 2)
    assert {6, 7, 8, 9, 10} <= set(lab.figures(ident))


def test_nothing_to_track_is_an_error_in_words(auto: Auto, lab: Lab) -> None:
    track = begin(auto, lab, [lab.object()], 0, 5)
    lab.finished(track)
    (error,) = lab.errors(track)
    assert error.startswith("No settings for selected geometries. Tracking stopped.")
    wait_until(lambda: len(auto.service.tracks) == 0)  # it is not in the way of the next try


def test_a_missing_engine_skips_its_geometry_only(auto: Auto, lab: Lab) -> None:
    auto.post("settings", {}, settings={"bitmap": None})
    assert "bitmap" not in auto.post("available_geometries", {}).json()
    ident, other = lab.object(), lab.object()
    lab.box(ident, 0)
    lab.draw(other, 0, "bitmap", bitmap_json(20))
    track = begin(auto, lab, [ident, other], 0, 4)
    lab.finished(track)
    assert "Skipping geometries: masks" in lab.warnings(track)
    assert sorted(lab.figures(ident)) == [0, 1, 2, 3, 4]
    assert sorted(lab.figures(other)) == [0]


def test_several_figures_of_one_object_are_tracked_together(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0, 20)
    lab.draw(ident, 0, "bitmap", bitmap_json(60))
    track = begin(auto, lab, [ident], 0, 6, detectOffScreen=False)
    lab.finished(track)
    figures = lab.figures(ident)
    assert sorted(figures) == list(range(7))
    for frame, found in figures.items():
        assert {f["geometryType"]: left_of(f["geometry"]) for f in found} == {
            "rectangle": 20 + 2 * frame,
            "bitmap": 60 + 2 * frame,
        }


def test_tracking_stops_at_the_last_frame_and_leaves_the_picture_cut(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 20, 60)
    auto.rail.shift = 12.0
    track = begin(auto, lab, [ident], 20, 500, detectOffScreen=False)
    told = lab.finished(track)
    assert told[-1]["progress"]["total"] == FRAMES - 1 - 20
    for frame, (one,) in lab.figures(ident).items():
        (left, _), (right, _) = one["geometry"]["points"]["exterior"]
        assert 0 <= left <= right <= 159
        assert left == 60 + 12 * (frame - 20)
    assert max(lab.figures(ident)) == 28  # then nothing of it is in the picture


def test_a_prediction_can_be_tracked_on_from_when_asked_for(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 4, 28, trackId="earlier", nnCreated=True, nnUpdated=True)
    track = begin(auto, lab, [ident], 4, 4)
    lab.finished(track)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(4, 9)}


def test_interpolation_engine_extrapolates(auto: Auto, lab: Lab) -> None:
    auto.post("settings", {}, settings={"rectangle": {"interpolation": True}})
    ident = lab.object()
    lab.box(ident, 2, 20)
    lab.box(ident, 4, 26)
    track = begin(auto, lab, [ident], 4, 4)
    lab.finished(track)
    assert lab.lefts(ident) == {2: 20, 4: 26, 5: 29, 6: 32, 7: 35, 8: 38}
    assert auto.rail.pushes == 0


def test_interpolation_engine_interpolates_between_key_figures(auto: Auto, lab: Lab) -> None:
    auto.post("settings", {}, settings={"rectangle": {"interpolation": True}})
    ident = lab.object()
    lab.box(ident, 0, 20)
    lab.box(ident, 10, 70)
    track = begin(auto, lab, [ident], 0, 10)
    lab.finished(track)
    assert lab.lefts(ident) == {n: 20 + 5 * n for n in range(11)}


def test_the_sdk_reaches_it_through_the_server(auto: Auto, lab: Lab) -> None:
    registration = {"name": "auto", "url": auto.url, "config": {"is_auto_track": True}}
    task = lab.served.own("POST", "apps/register", json=registration).json()["id"]
    ident = lab.object()
    lab.box(ident, 0)
    track = str(uuid.uuid4())
    context = {"trackId": track, "videoId": lab.video_id, "objectIds": [ident], "frameIndex": 0, "frames": 4}
    api = lab.served.api
    assert api.task.send_request(task, "track", data={}, context=context) == {"message": "Track task started."}
    lab.finished(track)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(5)}
    assert "rectangle" in api.task.send_request(task, "available_geometries", data={})
    assert api.task.send_request(task, "stop_tracking", data={}, context={"trackId": track}) is None


def test_removing_everything_is_no_error(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(auto, lab, [ident], 0, 3)
    lab.finished(track)
    lab.served.call("annotation-objects.bulk.remove", [ident])
    auto.post("objects_removed", {"figures": [{"objectId": ident, "frames": [0, 29]}]})
    lab.finished(track, 2)
    assert lab.errors(track) == []


def test_an_object_that_is_gone_is_named(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(auto, lab, [ident, 987_654], 0, 3)
    lab.finished(track)
    assert "Object 987654 does not exist any more" in lab.warnings(track)
    assert sorted(lab.figures(ident)) == [0, 1, 2, 3]
