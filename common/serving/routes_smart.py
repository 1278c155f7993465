"""The smart tool's endpoints: a mask from a box and clicks, on a video's frame or on a picture."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field, model_validator
from starlette.concurrency import run_in_threadpool

from common.geometry.supervisely import to_json
from common.serving.access import Caller
from common.serving.envelope import FrameNumber, Ident, Read
from common.serving.intake import decode, parse_json, read_form
from common.serving.replies import Rejected
from common.serving.service import Service
from common.serving.smart_tool import Clicks, Hints
from common.serving.wiring import Call, Serving
from common.supervisely_io.videos import video
from common.video.contract import Image

router = APIRouter()

MAX_CLICKS = 1000
MAX_STATES = 256

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class Place(Read):
    x: Coordinate
    y: Coordinate


class FrameOf(Read):
    video_id: Ident
    frame_index: FrameNumber


class SmartState(Read):
    """One request. crop: two opposite corners, both inside; the whole picture when left out."""

    crop: Annotated[list[Place], Field(min_length=2, max_length=2)] | None = None
    positive: list[Place] = Field(default_factory=list, max_length=MAX_CLICKS)
    negative: list[Place] = Field(default_factory=list, max_length=MAX_CLICKS)
    video: FrameOf | None = None
    image_id: Ident | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_selectors(cls, value: Any) -> Any:
        unknown = {"image_hash", "volume", "pcd_related_image_id"} & set(value if isinstance(value, dict) else ())
        if unknown and not {"video", "image_id"} & set(value):
            raise ValueError(f"this smart tool cannot open {', '.join(sorted(unknown))}; use video or image_id")
        return value

    def hints(self, width: int, height: int) -> Hints | None:
        """In pixels of a picture of that size; None when nothing can be meant: no clicks, one outside the crop, or a crop
        outside the picture."""
        x1, y1, x2, y2 = 0, 0, width, height
        if self.crop is not None:
            xs, ys = sorted(round(p.x) for p in self.crop), sorted(round(p.y) for p in self.crop)
            x1, y1, x2, y2 = max(0, xs[0]), max(0, ys[0]), min(width, xs[1] + 1), min(height, ys[1] + 1)
        if x1 >= x2 or y1 >= y2 or not (self.positive or self.negative):
            return None
        positive, negative = _clicks(self.positive), _clicks(self.negative)
        every = np.concatenate((positive, negative))
        if (np.rint(every) < (x1, y1)).any() or (np.rint(every) > (x2, y2)).any():
            return None
        return Hints((x1, y1, x2, y2), positive, negative)


@router.post("/smart_segmentation")
async def smart_segmentation(call: Call, service: Serving) -> dict[str, Any]:
    state = SmartState.model_validate(call.context)
    return await run_in_threadpool(_answer, service, service.caller(call), state)


@router.post("/smart_segmentation_batch")
async def smart_segmentation_batch(call: Call, service: Serving) -> list[dict[str, Any]]:
    given = call.context.get("states")
    if not isinstance(given, list) or len(given) > MAX_STATES:
        raise Rejected(f"The context needs `states`, a list of at most {MAX_STATES}.")
    states = [SmartState.model_validate(state) for state in given]
    caller = service.caller(call)
    return await run_in_threadpool(lambda: [_answer(service, caller, state) for state in states])


@router.post("/smart_segmentation_batched")
async def smart_segmentation_batched(call: Call, service: Serving) -> dict[str, dict[str, Any]]:
    given = call.context.get("data_to_process")
    if not isinstance(given, dict) or len(given) > MAX_STATES:
        raise Rejected(f"The context needs `data_to_process`, an object of at most {MAX_STATES} entries.")
    states = {key: SmartState.model_validate(state) for key, state in given.items()}
    caller = service.caller(call)
    return await run_in_threadpool(lambda: {key: _answer(service, caller, state) for key, state in states.items()})


@router.post("/smart_segmentation_files")
async def smart_segmentation_files(service: Serving, request: Request) -> dict[str, Any]:
    """One picture as a file; crop and clicks in the part `settings`."""
    async with read_form(request, service.settings.max_upload_bytes) as (settings, files):
        state = SmartState.model_validate(parse_json(settings, "The part `settings`"))
        file = files[0]

        def answer() -> dict[str, Any]:
            file.seek(0)
            return _segment(service, decode(file.read(), "The picture"), state)

        return await run_in_threadpool(answer)


def _answer(service: Service, caller: Caller, state: SmartState) -> dict[str, Any]:
    if not (state.positive or state.negative):
        return _NOTHING
    return _segment(service, _picture(service, caller, state), state)


def _picture(service: Service, caller: Caller, state: SmartState) -> Image:
    server = service.server(caller)
    if state.video is not None:
        asked = state.video

        def frame() -> Image:
            with closing(service.videos.open(server, video(server, asked.video_id))) as source:
                return source.read(asked.frame_index)

        return service.pictures.get((caller.fingerprint, "frame", asked.video_id, asked.frame_index), frame)
    if state.image_id is None:
        raise Rejected("Name the picture: video with video_id and frame_index, or image_id.")
    ident = state.image_id
    return service.pictures.get(
        (caller.fingerprint, "image", ident),
        lambda: decode(server.fetch("images.download", {"id": ident}).content, f"Image {ident}"),
    )


def _segment(service: Service, image: Image, state: SmartState) -> dict[str, Any]:
    hints = state.hints(image.shape[1], image.shape[0])
    if hints is None or service.app.segmenter is None:
        return _NOTHING
    mask = service.app.segmenter.segment(image, hints)
    if mask.area == 0:
        return _NOTHING
    bitmap = to_json(mask)["bitmap"]
    x, y = bitmap["origin"]
    return {"origin": {"x": x, "y": y}, "bitmap": bitmap["data"], "success": True, "error": None}


_NOTHING: dict[str, Any] = {"origin": None, "bitmap": None, "success": True, "error": None}


def _clicks(places: list[Place]) -> Clicks:
    return np.array([(place.x, place.y) for place in places], np.float32).reshape(-1, 2)
