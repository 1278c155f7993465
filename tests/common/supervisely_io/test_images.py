"""Pictures stored in a dataset where their names are taken."""

from __future__ import annotations

import cv2
import numpy as np

from common.supervisely_io.images import copied, image, images
from common.supervisely_io.server import Server
from tests.apps.workbench.harness import Served
from tests.apps.workbench.image_projects import encoded


def test_different_pictures_of_one_name_get_numbers(server: Server, served: Served) -> None:
    api = served.api
    project = api.project.create(1, "same names")
    target = api.dataset.create(project.id, "target").id
    sources = []
    for number in range(6):
        dataset = api.dataset.create(project.id, f"camera {number}")
        [info] = api.image.upload_nps(
            dataset.id, ["image.png"], [cv2.imdecode(np.frombuffer(encoded(number), np.uint8), cv2.IMREAD_COLOR)]
        )
        sources.append(image(server, info.id))
    for source in sources:
        copied(server, [source], target)
    again = [copied(server, [source], target)[0] for source in sources]
    expected = ["image.png", *(f"image ({number}).png" for number in range(2, 7))]
    assert [one.name for one in again] == [one.name for one in images(server, target)] == expected
    assert [one.hash for one in again] == [one.hash for one in sources]
