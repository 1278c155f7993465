"""The names that requests use for one thing, and what is made of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from common.serving.envelope import (
    ApiContext,
    AsyncContext,
    CacheState,
    Envelope,
    FilesSettings,
    JobContext,
    PopContext,
    Read,
    TrackContext,
)
from common.serving.replies import problem

TRACK = {"videoId": 5, "trackId": "t", "objectIds": [1], "figureIds": [2], "frameIndex": 3, "frames": 4}
BOX = {"objectId": 1, "geometryType": "rectangle", "geometry": {}}
COLUMN = {"type": "rectangle", "data": {}}
API = {"videoId": 5, "frameIndex": 3, "frames": 4, "input_geometries": [COLUMN]}


@pytest.mark.parametrize(
    ("model", "context", "expected"),
    [
        (TrackContext, TRACK, {"video_id": 5, "track_id": "t", "frames": 4, "direction": "forward", "direct": False}),
        (TrackContext, TRACK | {"direction": "BACKWARD"}, {"direction": "backward", "step": -1}),
        (TrackContext, TRACK | {"direction": None}, {"direction": "forward", "step": 1}),
        (TrackContext, TRACK | {"sessionId": "s"}, {"session_id": "s"}),
        (TrackContext, TRACK | {"session_id": 12}, {"session_id": "12"}),
        (TrackContext, TRACK | {"sessionId": ""}, {"session_id": None}),
        (TrackContext, TRACK | {"useDirectProgressMessages": True}, {"direct": True}),
        (TrackContext, TRACK | {"useDirectProgressMessages": None}, {"direct": False}),
        (TrackContext, TRACK | {"videoId": "5", "trackId": 9}, {"video_id": 5, "track_id": "9"}),
        (TrackContext, TRACK | {"teamId": 1, "frameWidth": 10, "surprise": {}}, {"frame_index": 3}),
        (TrackContext, {k: v for k, v in TRACK.items() if k != "objectIds"}, {"object_ids": []}),
        (
            AsyncContext,
            {"video_id": 5, "frame_index": 3, "frames_count": 4, "figures": [BOX]},
            {"video_id": 5, "frame_index": 3, "frames": 4, "track_id": None},
        ),
        (AsyncContext, {"videoId": 5, "frameIndex": 3, "framesCount": 4, "figures": [BOX]}, {"frames": 4}),
        (ApiContext, API, {"session": None}),
        (ApiContext, API | {"session": "s"}, {"session": "s"}),
        (ApiContext, API | {"session_handle": "s"}, {"session": "s"}),
        (FilesSettings, {"input_geometries": [COLUMN]}, {"frame_index": 0}),
        (JobContext, {"inference_request_uuid": "u"}, {"uuid": "u", "track_id": None}),
        (JobContext, {"trackId": "t"}, {"uuid": None, "track_id": "t"}),
        (PopContext, {"inference_request_uuid": "u", "frameRange": [1, 2]}, {"frame_range": (1, 2)}),
        (PopContext, {"inference_request_uuid": "u", "frame_range": [1, 2]}, {"frame_range": (1, 2)}),
        (PopContext, {"inference_request_uuid": "u", "frames": [1, 2]}, {"frame_range": (1, 2)}),
        (PopContext, {"inference_request_uuid": "u", "frameRange": None}, {"frame_range": None}),
        (CacheState, {"video_id": 5, "frame_ranges": [[0, 3]]}, {"video_id": 5, "frame_ranges": [(0, 3)]}),
    ],
)
def test_names(model: type[Read], context: dict[str, Any], expected: dict[str, Any]) -> None:
    read = model.model_validate(json.loads(json.dumps(context)))
    assert {name: getattr(read, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"objectIds": [1, 2]}, "objectIds"),
        ({"figureIds": []}, "figureIds"),
        ({"figureIds": [0]}, "figureIds.0"),
        ({"frames": 0}, "frames"),
        ({"frames": 1.5}, "frames"),
        ({"frameIndex": None}, "frameIndex"),
        ({"direction": "up"}, "direction"),
        ({"trackId": ""}, "trackId"),
        ({"figureIds": ["secret-value"]}, "figureIds.0"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrackContext.model_validate(TRACK | change)
    assert place in problem(caught.value)
    assert "secret-value" not in problem(caught.value) + str(caught.value)


@pytest.mark.parametrize(
    ("body", "token"),
    [
        ({"api_token": "a", "context": {"apiToken": "b"}}, "a"),
        ({"context": {"apiToken": "b"}}, "b"),
        ({"api_token": "", "context": {"apiToken": "b"}}, "b"),
        ({"context": None}, None),
        ({"context": {"apiToken": 5}}, None),
        ({}, None),
    ],
)
def test_whose_token(body: dict[str, Any], token: str | None) -> None:
    envelope = Envelope.model_validate(body)
    assert envelope.token == token
    assert "api_token=SecretStr('a')" not in repr(envelope)
