"""The smart tool: what GrabCut cuts out, and its endpoints."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pictures

from common.geometry.measures import iou
from common.geometry.supervisely import from_json
from common.geometry.types import Bool, Mask
from common.serving.smart_tool import GrabCut, Hints
from common.video.reader import open_source
from tests.common.serving.stage import HEIGHT, WIDTH, Client, Stage, value


def scene(seed: int, scale: int = 1) -> tuple[np.ndarray, Bool]:
    """A textured ellipse before a textured ground of another colour; (picture, truth)."""
    random = np.random.default_rng(seed)
    height, width = 120 * scale, 160 * scale
    truth = np.zeros((height, width), np.uint8)
    centre = (int(random.integers(50, 110)) * scale, int(random.integers(45, 75)) * scale)
    axes = (int(random.integers(18, 34)) * scale, int(random.integers(14, 26)) * scale)
    cv2.ellipse(truth, centre, axes, float(random.integers(0, 180)), 0, 360, 1, -1)
    colours = random.permutation([[190, 60, 60], [60, 150, 60], [70, 70, 190], [180, 170, 60]])
    image = np.where(truth[..., None] == 1, colours[0], colours[1]).astype(float)
    image += cv2.resize(random.normal(0, 18, (height // 2, width // 2, 3)), (width, height))
    return np.clip(image, 0, 255).astype(np.uint8), truth.astype(bool)


def around(truth: Bool, margin: int) -> tuple[int, int, int, int]:
    ys, xs = np.nonzero(truth)
    height, width = truth.shape
    return (
        max(0, int(xs.min()) - margin),
        max(0, int(ys.min()) - margin),
        min(width, int(xs.max()) + 1 + margin),
        min(height, int(ys.max()) + 1 + margin),
    )


def middle(truth: Bool) -> np.ndarray:
    ys, xs = np.nonzero(truth)
    return np.array([[xs.mean(), ys.mean()]], np.float32)


@pytest.mark.parametrize(("seed", "scale"), [(0, 1), (1, 1), (2, 1), (3, 4), (4, 4)])
def test_an_object_of_another_colour_is_cut_out(seed: int, scale: int) -> None:
    image, truth = scene(seed, scale)
    mask = GrabCut().segment(image, Hints(around(truth, 6 * scale), middle(truth)))
    assert iou(mask, Mask.from_array(truth)) > 0.9


def test_the_answer_is_the_same_every_time_and_lies_in_the_crop() -> None:
    image, truth = scene(5)
    x1, y1, x2, y2 = around(truth, -4)
    hints = Hints((x1, y1, x2, y2), middle(truth))
    mask = GrabCut().segment(image, hints)
    assert mask == GrabCut().segment(image, hints)
    full = mask.to_array()
    full[y1:y2, x1:x2] = False
    assert not full.any() and mask.area > 0


def test_a_negative_click_takes_away() -> None:
    image = np.full((100, 160, 3), 40, np.uint8)
    image[30:70, 20:60] = image[30:70, 90:130] = (200, 60, 60)
    image[48:52, 60:90] = (200, 60, 60)  # a bridge joins the two
    image = cv2.add(image, np.random.default_rng(0).integers(0, 12, image.shape, dtype=np.uint8))
    crop = (12, 22, 138, 78)
    positive = np.array([[40, 50]], np.float32)
    both = GrabCut().segment(image, Hints(crop, positive)).to_array()
    assert both[50, 40] and both[50, 110]
    refused = np.array([[75, 50], [75, 48], [110, 50], [100, 40], [120, 60], [100, 60], [120, 40]], np.float32)
    one = GrabCut(click=0.08).segment(image, Hints(crop, positive, refused)).to_array()
    assert one[50, 40] and not one[50, 110]


@pytest.mark.parametrize("crop", [(0, 0, 160, 120), (0, 0, 1, 1), (159, 119, 160, 120), (10, 10, 12, 100)])
def test_odd_crops_give_a_mask_of_the_picture(crop: tuple[int, int, int, int]) -> None:
    image, _ = scene(6)
    click = np.array([[crop[0], crop[1]]], np.float32)
    mask = GrabCut().segment(image, Hints(crop, click))
    assert (mask.height, mask.width) == (120, 160)


def box_and_click(frame: int = 3) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) for v in value("rectangle", frame).xyxy)  # type: ignore[union-attr]
    return {
        "crop": [{"x": x1 - 5, "y": y1 - 5}, {"x": x2 + 5, "y": y2 + 5}],
        "positive": [{"x": (x1 + x2) / 2, "y": (y1 + y2) / 2}],
        "negative": [],
        "request_uid": "r",
    }


def as_mask(reply: dict[str, Any]) -> Mask:
    assert reply["success"] is True and reply["error"] is None
    origin = reply["origin"]
    bitmap = {"bitmap": {"origin": [origin["x"], origin["y"]], "data": reply["bitmap"]}}
    mask = from_json("bitmap", bitmap, WIDTH, HEIGHT)
    assert isinstance(mask, Mask)
    return mask


NOTHING = {"origin": None, "bitmap": None, "success": True, "error": None}


def test_on_a_frame_of_a_video(client: Client, stage: Stage) -> None:
    context = box_and_click() | {"video": {"video_id": stage.video.id, "frame_index": 3}}
    reply = client.post("smart_segmentation", context).json()
    assert iou(as_mask(reply), value("bitmap", 3)) > 0.8  # type: ignore[arg-type]
    batch = client.post("smart_segmentation_batch", {"states": [context, context | {"positive": []}]}).json()
    assert batch == [reply, NOTHING]
    many = client.post("smart_segmentation_batched", {"data_to_process": {"a": context}}).json()
    assert many == {"a": reply}


def test_on_a_file(client: Client, clip: Path) -> None:
    source = open_source(clip)
    file = io.BytesIO()
    Pictures.fromarray(source.read(3)).save(file, "png")
    source.close()
    reply = client.files("smart_segmentation_files", [file.getvalue()], json.dumps(box_and_click()))
    assert iou(as_mask(reply.json()), value("bitmap", 3)) > 0.8  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"positive": [], "negative": []},
        {"positive": [{"x": 1, "y": 1}]},
        {"crop": [{"x": 900, "y": 900}, {"x": 950, "y": 950}], "positive": [{"x": 920, "y": 920}]},
    ],
)
def test_nothing_meant_is_nothing_found(client: Client, stage: Stage, change: dict[str, Any]) -> None:
    context = box_and_click() | {"video": {"video_id": stage.video.id, "frame_index": 3}} | change
    reply = client.post("smart_segmentation", context)
    assert (reply.status_code, reply.json()) == (200, NOTHING)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"crop": [{"x": 1, "y": 1}]}, 400),
        ({"positive": "here"}, 400),
        ({"positive": [{"x": "NaN", "y": 1}]}, 400),
        ({"video": None}, 400),
        ({"video": None, "image_hash": "abc"}, 400),
        ({"video": {"video_id": 1, "frame_index": 0}}, 404),
    ],
)
def test_bad_requests(client: Client, stage: Stage, change: dict[str, Any], status: int) -> None:
    context = box_and_click() | {"video": {"video_id": stage.video.id, "frame_index": 3}} | change
    reply = client.post("smart_segmentation", {k: v for k, v in context.items() if v is not None})
    assert reply.status_code == status and reply.json()["success"] is False and reply.json()["message"]
