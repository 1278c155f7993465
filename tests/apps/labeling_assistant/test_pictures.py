"""A project of images: people label some, the assistant the others, and what people drew stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervisely as sly

from common.geometry.measures import box_iou
from tests.apps.labeling_assistant.conftest import TOY, Assisting
from tests.common.labeling.toys import CLASSES

SHOWN = (0, 5, 10, 15, 20)
LABELLED = 2
"""So many of the first images are fully labelled."""


@pytest.fixture
def images(assistant: Assisting, tmp_path: Path) -> tuple[int, list[int]]:
    """Project, and images in the order of SHOWN."""
    api = assistant.served.api
    project = api.project.create(1, "pictures", sly.ProjectType.IMAGES, change_name_if_conflict=True)
    dataset = api.dataset.create(project.id, "all")
    paths = []
    for frame in SHOWN:
        paths.append(str(tmp_path / f"{frame:02}.png"))
        cv2.imwrite(paths[-1], TOY.read(frame)[..., ::-1])
    found = api.image.upload_paths(dataset.id, [Path(p).name for p in paths], paths)
    classes = [sly.ObjClass(name, sly.Rectangle) for name in CLASSES]
    api.project.update_meta(project.id, sly.ProjectMeta(sly.ObjClassCollection(classes)))
    for info, frame in list(zip(found, SHOWN, strict=True))[:LABELLED]:
        boxes = [(classes[thing.kind], np.round(box).astype(int).tolist()) for thing, box in TOY.boxes(frame)]
        labels = [sly.Label(sly.Rectangle(y1, x1, y2 - 1, x2 - 1), kind) for kind, (x1, y1, x2, y2) in boxes]
        api.annotation.upload_ann(info.id, sly.Annotation((TOY.info.height, TOY.info.width), labels))
    return project.id, [info.id for info in found]


def boxes(assistant: Assisting, image: int) -> list[tuple[int, str, np.ndarray]]:
    """Id, class, box of an image's labels."""
    meta = assistant.served.api.annotation.download_json(image)
    found: list[tuple[int, str, np.ndarray]] = []
    for one in meta["objects"]:
        (x1, y1), (x2, y2) = one["points"]["exterior"]
        found.append((one["id"], one["classTitle"], np.array([x1, y1, x2 + 1, y2 + 1], float)))
    return found


def right(assistant: Assisting, image: int, frame: int) -> float:
    """Share of the things whole in the picture that have a label of their class."""
    there = boxes(assistant, image)
    hits: list[bool] = []
    for thing, box in TOY.boxes(frame, 0.9):
        own = np.array([b for _, name, b in there if name == CLASSES[thing.kind]]).reshape(-1, 4)
        hits.append(bool(box_iou(box[None], own).max(initial=0) > 0.5))
    return float(np.mean(hits))


def test_some_images_labelled_then_the_others(assistant: Assisting, images: tuple[int, list[int]]) -> None:
    project, idents = images
    told = assistant.post("support", project_id=project)
    assert [one["name"] for one in told["classes"]] == ["disc", "crate"] and len(told["frames"]) == LABELLED
    assert "motion" not in [one["name"] for one in told["candidates"]]
    before = {image: boxes(assistant, image) for image in idents[:LABELLED]}
    quick: dict[str, Any] = {"candidates": ["exemplar-colour"], "budget_s": 0}
    selection = assistant.finished("select", project_id=project, **quick)
    assert selection["videos"][0]["table"][0]["f1"] > 0.6

    result = assistant.finished("run", selection=selection["job_id"])
    (row,) = result["videos"]
    assert (result["of"], row["images"], row["chosen"]) == ("images", len(SHOWN) - LABELLED, "exemplar-colour")
    for place, (image, frame) in enumerate(zip(idents, SHOWN, strict=True)):
        assert right(assistant, image, frame) > 0.7, frame
        if place < LABELLED:
            assert [i for i, *_ in boxes(assistant, image)] == [i for i, *_ in before[image]], "as people drew it"
    first = {image: {i for i, *_ in boxes(assistant, image)} for image in idents}

    again = assistant.finished("run", project_id=project, **quick)["videos"][0]
    assert again["removed"] == row["figures"] > 0, "a new labeling takes the place of the one before"
    for image in idents[LABELLED:]:
        now = {i for i, *_ in boxes(assistant, image)}
        assert now and not now & first[image]
    status = assistant.get("status", job_id=result["job_id"])
    assert status["of"] == "images" and status["share"] == 1.0
