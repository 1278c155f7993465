"""The published YOLO networks of ultralytics, as data: name -> architecture, task, licence.

Sources: https://docs.ultralytics.com/models; YOLOv9, Wang et al. 2024, https://arxiv.org/abs/2402.13616; YOLOv10, Wang et
al. 2024, https://arxiv.org/abs/2405.14458; YOLO12, Tian et al. 2025, https://arxiv.org/abs/2502.12524.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.detection.decoding import Task


@dataclass(frozen=True)
class YoloVariant:
    """architecture: name of the description that comes with ultralytics, with the scale in it. side: input's longer side
    it was trained with."""

    architecture: str
    title: str
    task: Task
    side: int
    paper: str


_SUFFIX: Mapping[Task, str] = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb"}
_EVERY: tuple[Task, ...] = ("detect", "segment", "pose", "obb")
_DOCS = "https://docs.ultralytics.com/models/"
_FAMILIES: tuple[tuple[str, str, tuple[Task, ...], str, str], ...] = (
    ("yolo26", "nsmlx", _EVERY, _DOCS + "yolo26", "YOLO26"),
    ("yolo12", "nsmlx", ("detect",), "https://arxiv.org/abs/2502.12524", "YOLO12"),
    ("yolo11", "nsmlx", _EVERY, _DOCS + "yolo11", "YOLO11"),
    ("yolov10", "nsmblx", ("detect",), "https://arxiv.org/abs/2405.14458", "YOLOv10"),
    ("yolov9", "tsmce", ("detect",), "https://arxiv.org/abs/2402.13616", "YOLOv9"),
    ("yolov8", "nsmlx", _EVERY, _DOCS + "yolov8", "YOLOv8"),
)


def _all() -> Iterator[tuple[str, YoloVariant]]:
    for family, sizes, tasks, paper, title in _FAMILIES:
        for task in tasks:
            for size in sizes:
                suffix = _SUFFIX[task]
                name = f"{family}{size}{suffix}"
                side = 1024 if task == "obb" else 640
                yield name, YoloVariant(f"{name}.yaml", f"{title} {size}{suffix}", task, side, paper)
    for size in "nsmlx":
        yield f"yolov5{size}u", YoloVariant(f"yolov5{size}.yaml", f"YOLOv5 {size}u", "detect", 640, _DOCS + "yolov5")


YOLO: Mapping[str, YoloVariant] = dict(_all())
"""By the name of their weights, which is that of the published file."""
