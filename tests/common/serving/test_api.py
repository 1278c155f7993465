"""`/track-api` and `/track-api-files`: rows and columns, lost objects, memory between batches, bad input."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image as Pictures

from common.geometry.supervisely import from_json
from common.serving import batches
from common.video.reader import open_source
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import (
    ALL_SHAPES,
    FRAMES,
    HEIGHT,
    WIDTH,
    AppRunning,
    Client,
    Stage,
    data,
    new_track,
    value,
    wait_until,
)
from tests.common.serving.toys import SPEED, Drift

OUTSIDE = {"points": {"exterior": [[WIDTH + 20, 10], [WIDTH + 40, 30]], "interior": []}}


def ask(client: Client, stage: Stage, columns: list[dict[str, Any]], **more: Any) -> Any:
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 4, "input_geometries": columns} | more
    reply = client.post("track-api", context)
    assert reply.status_code == 200, reply.text
    return reply.json()


def column(kind: str, frame: int = 0, row: int = 0) -> dict[str, Any]:
    return {"type": kind, "data": data(kind, frame, row)}


@pytest.mark.parametrize(("direction", "start"), [("forward", 0), ("backward", 12)])
def test_rows_and_columns_of_all_geometries(client: Client, stage: Stage, direction: str, start: int) -> None:
    columns = [column(kind, start, n % 3) for n, kind in enumerate(ALL_SHAPES)]
    columns.append(column("line", start, 0) | {"type": "polyline"})
    rows = ask(client, stage, columns, frameIndex=start, direction=direction)
    assert [len(row) for row in rows] == [8] * 4
    for row in rows:
        assert [cell["type"] for cell in row] == [*ALL_SHAPES, "polyline"]
        for cell in row:
            assert set(cell) == {"type", "data", "score", "visible"} and 0 <= cell["score"] <= 1
            from_json(cell["type"], cell["data"], WIDTH, HEIGHT)
    (left, _), _ = rows[-1][0]["data"]["points"]["exterior"]
    assert left == pytest.approx(20 + 2 * (start + (4 if direction == "forward" else -4)), abs=2)


def test_the_batch_gives_what_track_writes(client: Client, stage: Stage) -> None:
    kinds = ("rectangle", "bitmap", "polygon")
    drawn, track = [stage.draw(kind, 0, row) for row, kind in enumerate(kinds)], new_track()
    client.track(stage, drawn, track, frames=4)
    stage.wait_final(track)
    rows = ask(client, stage, [column(kind, 0, row) for row, kind in enumerate(kinds)])
    for number, (object_id, _) in enumerate(drawn):
        written = {f["meta"]["frame"]: f["geometry"] for f in stage.figures([object_id], track)}
        assert written == {frame: row[number]["data"] for frame, row in enumerate(rows, 1)}


def test_fewer_rows_only_at_the_videos_end(client: Client, stage: Stage) -> None:
    assert len(ask(client, stage, [column("point", FRAMES - 3)], frameIndex=FRAMES - 3)) == 2
    assert ask(client, stage, [column("point", FRAMES - 1)], frameIndex=FRAMES - 1) == []
    assert len(ask(client, stage, [column("point", 1)], frameIndex=1, direction="backward")) == 1


def test_lost_objects_are_null_and_keep_their_column(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(step=-6)) as client:
        rows = ask(
            client, stage, [column("rectangle"), {"type": "rectangle", "data": OUTSIDE}, column("point")], frames=3
        )
        assert [[cell is None for cell in row] for row in rows] == [[False, True, False]] * 3
        rows = ask(client, stage, [column("rectangle"), column("rectangle", 10, 1)], frames=6)
        assert rows[-1][0] is None and rows[-1][1] is not None  # 12 pixels to the left per frame
        assert all(cell is None or cell["data"]["points"]["exterior"][0][0] >= 0 for row in rows for cell in row)


def feed(rows: Any, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The next batch's input, as Auto Track makes it: what was given out last."""
    return [
        {**old, "data": None if cell is None else cell["data"]} for old, cell in zip(columns, rows[-1], strict=True)
    ]


def test_two_batches_with_a_session_equal_one(client: Client, stage: Stage) -> None:
    columns = [column(kind, 0, n % 3) for n, kind in enumerate(ALL_SHAPES)]
    whole = ask(client, stage, columns, frames=8)
    first = ask(client, stage, columns, session="s-1")
    context = {"videoId": stage.video.id, "frameIndex": 4, "frames": 4, "session": "s-1"}
    reply = client.post("track-api", context | {"input_geometries": feed(first, columns)})
    assert reply.headers["x-continued-objects"] == str(len(ALL_SHAPES))
    assert first + reply.json() == whole


@pytest.mark.parametrize("lookahead", [0, 3])
def test_a_session_is_continued_only_where_it_ended_unchanged(
    served: Served, stage: Stage, tmp_path: Path, lookahead: int
) -> None:
    drift = Drift(lookahead=lookahead)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        columns = [column("rectangle", 0, 0), column("rectangle", 0, 1)]

        def batch(start: int, given: list[dict[str, Any]], session: str | None = "s", **more: Any) -> tuple[Any, int]:
            context = {"videoId": stage.video.id, "frameIndex": start, "frames": 4, "input_geometries": given} | more
            reply = client.post("track-api", context | ({} if session is None else {"session": session}))
            assert reply.status_code == 200, reply.text
            return reply.json(), int(reply.headers["x-continued-objects"])

        first, continued = batch(0, columns)
        assert continued == 0
        follow = feed(first, columns)
        assert batch(4, follow, None)[1] == 0
        assert batch(4, follow, "another")[1] == 0
        assert batch(3, follow, "s")[1] == 0  # not where it ended; and now it ends on 7
        first, _ = batch(0, columns)
        second, continued = batch(4, follow)
        assert continued == 2
        lefts = [row[0]["data"]["points"]["exterior"][0][0] for row in first + second]
        assert lefts == [20 + SPEED * n for n in range(1, 9)]
        corrected = feed(second, columns)
        corrected[0] = column("rectangle", 8, 2)
        starts = drift.starts
        third, continued = batch(8, corrected)
        assert (continued, drift.starts) == (1, starts + 1)
        assert third[0][0]["data"]["points"]["exterior"][0] == [20 + 2 * 9, 104]
        # the other caller's token is not this one's
        body = {
            "videoId": stage.video.id,
            "frameIndex": 12,
            "frames": 1,
            "session": "s",
            "input_geometries": feed(third, columns),
        }
        assert client.post("track-api", body, api_token="x" * 32).status_code in (401, 403)


def test_a_batch_that_is_sent_again_is_continued_again(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift()) as client:
        columns = [column("rectangle")]
        rows = ask(client, stage, columns, session="twice")
        context = {"videoId": stage.video.id, "frames": 4, "session": "twice"}
        for start in (4, 8, 12):
            given = context | {"frameIndex": start, "input_geometries": feed(rows, columns)}
            first, second = client.post("track-api", given), client.post("track-api", given)
            assert first.headers["x-continued-objects"] == second.headers["x-continued-objects"] == "1"
            assert first.json() == second.json()
            rows = second.json()
        assert client.service.engines.tracker("toy").starts == 1
        [kept] = client.service.memory._kept.values()
        assert [remembered.frame for remembered in kept[2]] == [16, 12]


def test_who_hangs_up_stops_the_batch(served: Served, stage: Stage, tmp_path: Path) -> None:
    drift = Drift(delay_s=0.1)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 39, "input_geometries": [column("rectangle")]}
        body = {"context": context, "server_address": client.server, "api_token": client.token}
        with pytest.raises(requests.Timeout):
            requests.post(f"{client.address}/track-api", json=body, timeout=0.5)
        wait_until(lambda: not client.service.batches.jobs(), 5)
        assert drift.pushed < 35


def test_a_batch_has_an_end(client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_CELLS", 10)
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 6, "input_geometries": [column("point")] * 2}
    reply = client.post("track-api", context)
    assert reply.status_code == 400 and "fewer frames" in reply.json()["message"]


def test_keys_let_objects_come_and_go(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift()) as client:
        a, b = column("rectangle", 0, 0) | {"key": "a"}, column("rectangle", 0, 1) | {"key": "b"}
        rows = ask(client, stage, [a, b], session="k")
        _, next_b = feed(rows, [a, b])
        new = column("point", 4, 2) | {"key": "c"}
        rows = ask(client, stage, [new, next_b], session="k", frameIndex=4)
        assert [cell["type"] for cell in rows[0]] == ["point", "rectangle"]
        assert rows[-1][1]["data"]["points"]["exterior"][0] == [20 + SPEED * 8, 60]


def test_a_lost_object_stays_in_memory(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(step=-6)) as client:
        columns = [column("rectangle")]
        rows = ask(client, stage, columns, frames=6, session="lost")
        assert rows[-1] == [None]
        reply = client.post(
            "track-api",
            {
                "videoId": stage.video.id,
                "frameIndex": 6,
                "frames": 2,
                "session": "lost",
                "input_geometries": feed(rows, columns),
            },
        )
        assert reply.json() == [[None], [None]] and reply.headers["x-continued-objects"] == "1"


def pictures(clip: Path, start: int, stop: int) -> list[bytes]:
    source = open_source(clip)
    encoded = []
    for image in source.stream(start, stop):
        file = io.BytesIO()
        Pictures.fromarray(image).save(file, "png")
        encoded.append(file.getvalue())
    source.close()
    return encoded


@pytest.mark.parametrize(("direction", "start", "stop"), [("forward", 0, 5), ("backward", 12, 7)])
def test_files_give_what_the_video_gives(
    client: Client, stage: Stage, clip: Path, direction: str, start: int, stop: int
) -> None:
    columns = [column("rectangle", start), column("bitmap", start, 1), column("graph", start, 2)]
    settings = {"frame_index": start, "frames": 4, "direction": direction, "input_geometries": columns}
    reply = client.files("track-api-files", pictures(clip, start, stop), json.dumps(settings))
    assert reply.status_code == 200, reply.text
    found = [[cell["data"] for cell in row] for row in reply.json()]
    rows = ask(client, stage, columns, frameIndex=start, direction=direction)
    wanted = [[cell["data"] for cell in row] for row in rows]
    assert found == wanted


def test_many_masks_may_come_with_files(client: Client, clip: Path) -> None:
    columns = [column("bitmap"), *(column("point") | {"key": f"k{n}", "note": "x" * 100_000} for n in range(20))]
    settings = json.dumps({"frame_index": 0, "frames": 1, "input_geometries": columns})
    assert len(settings) > 2_000_000
    reply = client.files("track-api-files", pictures(clip, 0, 2), settings)
    assert reply.status_code == 200, reply.text
    assert [len(row) for row in reply.json()] == [21]


def test_files_that_are_no_pictures_are_refused(client: Client) -> None:
    settings = json.dumps({"frame_index": 0, "frames": 1, "input_geometries": [column("point")]})
    for files in ([b"no picture", b"neither"], [b"", b""]):
        reply = client.files("track-api-files", files, settings)
        assert reply.status_code == 400 and "picture" in reply.json()["message"]
    reply = client.files("track-api-files", [b"x"], "{not json")
    assert reply.status_code == 400


BAD = [
    ({"input_geometries": []}, 400, "input_geometries"),
    ({"input_geometries": [{"type": "cuboid", "data": {}}]}, 400, "cuboid"),
    ({"input_geometries": [{"type": "rectangle", "data": {"points": 1}}]}, 400, "damaged"),
    ({"input_geometries": [{"type": "bitmap", "data": {"bitmap": {"origin": [0, 0], "data": "????"}}}]}, 400, "bitmap"),
    ({"input_geometries": "rectangle"}, 400, "input_geometries"),
    ({"frames": 0}, 400, "frames"),
    ({"frames": "many"}, 400, "frames"),
    ({"frameIndex": FRAMES}, 400, str(FRAMES)),
    ({"frameIndex": -1}, 400, "frameIndex"),
    ({"direction": "sideways"}, 400, "direction"),
    ({"videoId": 999999}, 404, "videos.info"),
    ({"videoId": "../../etc/passwd"}, 400, "videoId"),
    ({"input_geometries": [column("point") | {"key": "a"}] * 2}, 400, "key"),
]


@pytest.mark.parametrize(("change", "status", "word"), BAD)
def test_bad_requests_are_refused_in_words(
    client: Client, stage: Stage, change: dict[str, Any], status: int, word: str
) -> None:
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 2, "input_geometries": [column("rectangle")]}
    reply = client.post("track-api", context | change)
    assert reply.status_code == status, reply.text
    assert word in reply.json()["message"]


def test_a_tracker_that_fails_is_a_500_with_a_message(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(fail_at=2)) as client:
        context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 3, "input_geometries": [column("rectangle")]}
        reply = client.post("track-api", context)
        assert (reply.status_code, reply.json()["message"]) == (500, "RuntimeError: the tracker exploded")


def test_a_bomb_in_a_bitmap_is_refused(client: Client, stage: Stage) -> None:
    text = base64.b64encode(zlib.compress(bytes(200 << 20), 9)).decode()
    bitmap = {"type": "bitmap", "data": {"bitmap": {"origin": [0, 0], "data": text}}}
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 1, "input_geometries": [bitmap]}
    reply = client.post("track-api", context)
    assert reply.status_code == 400 and "larger" in reply.json()["message"]


def test_truth_is_what_the_clip_shows(clip: Path) -> None:
    source = open_source(clip)
    image = source.read(5)
    source.close()
    box = value("rectangle", 5)
    x1, y1, x2, y2 = (int(v) for v in box.xyxy)  # type: ignore[union-attr]
    inside, around = image[y1:y2, x1:x2].mean(), image[y1:y2, x2 + 4 : x2 + 20].mean()
    assert inside - around > 60 and np.isfinite(inside)
