"""A project goes up through the SDK, comes down through the SDK, and is what it was."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import supervisely as sly
from supervisely.geometry.graph import GraphNodes, Node
from supervisely.geometry.oriented_bbox import OrientedBBox
from supervisely.video_annotation.key_id_map import KeyIdMap

from tests.apps.workbench.harness import Served, write_video

_MASK = np.zeros((48, 64), dtype=bool)
_MASK[5:20, 7:30] = True
_MASK[8:12, 10:15] = False

_TEMPLATE = {
    "nodes": {
        "a": {"label": "head", "loc": [10, 10], "color": [255, 0, 0]},
        "b": {"label": "tail", "loc": [30, 30], "color": [0, 255, 0]},
    },
    "edges": [{"src": "a", "dst": "b", "color": [0, 0, 255]}],
}

# the oriented box reaches out of the frame: only its centre must be inside
GEOMETRIES: dict[str, sly.geometry.geometry.Geometry] = {
    "rectangle": sly.Rectangle(3, 4, 20, 30),
    "oriented_bbox": OrientedBBox(0, 2, 25, 40, angle=0.7),
    "bitmap": sly.Bitmap(_MASK),
    "polygon": sly.Polygon(
        [sly.PointLocation(1, 1), sly.PointLocation(1, 40), sly.PointLocation(30, 40), sly.PointLocation(30, 1)],
        [[sly.PointLocation(5, 5), sly.PointLocation(5, 10), sly.PointLocation(10, 10)]],
    ),
    "point": sly.Point(11, 12),
    "line": sly.Polyline([sly.PointLocation(2, 3), sly.PointLocation(20, 30), sly.PointLocation(40, 31)]),
    "graph": GraphNodes({"a": Node(sly.PointLocation(3, 4)), "b": Node(sly.PointLocation(9, 8), disabled=True)}),
}


def _meta() -> sly.ProjectMeta:
    classes = [
        sly.ObjClass(kind, type(geometry), geometry_config=_TEMPLATE if kind == "graph" else None)
        for kind, geometry in GEOMETRIES.items()
    ]
    tags = [
        sly.TagMeta("plain", sly.TagValueType.NONE),
        sly.TagMeta("words", sly.TagValueType.ANY_STRING),
        sly.TagMeta("amount", sly.TagValueType.ANY_NUMBER),
        sly.TagMeta("choice", sly.TagValueType.ONEOF_STRING, possible_values=["left", "right"]),
    ]
    return sly.ProjectMeta(
        sly.ObjClassCollection([*classes, sly.ObjClass("any", sly.AnyGeometry)]), tags, project_type="videos"
    )


def _annotation(meta: sly.ProjectMeta, frames: int) -> sly.VideoAnnotation:
    """Every geometry as an object of its own class and of the class that takes any, on several frames, with tags."""
    tag = {meta_.name: meta_ for meta_ in meta.tag_metas}
    object_tags = [
        sly.VideoTag(tag["amount"], 3.5),
        sly.VideoTag(tag["choice"], "left", frame_range=[2, 5]),
        sly.VideoTag(tag["words"], 'ünïcødé " \\ 🎥', frame_range=[0, frames - 1]),
    ]
    objects, by_frame = [], {index: [] for index in range(frames)}
    for kind, geometry in GEOMETRIES.items():
        # the SDK asks a graph's class for its template, which a class that takes any geometry has not
        for class_name in (kind, "any") if kind != "graph" else (kind,):
            thing = sly.VideoObject(meta.get_obj_class(class_name), tags=sly.VideoTagCollection(object_tags))
            objects.append(thing)
            for index in (0, 3, frames - 1):
                moved = geometry if kind == "bitmap" else geometry.translate(index // 2, index)
                by_frame[index].append(sly.VideoFigure(thing, moved, index))
    figures = sly.FrameCollection([sly.Frame(index, found) for index, found in by_frame.items() if found])
    video_tags = [sly.VideoTag(tag["plain"]), sly.VideoTag(tag["words"], "video", frame_range=[1, 2])]
    return sly.VideoAnnotation(
        (48, 64), frames, sly.VideoObjectCollection(objects), figures, sly.VideoTagCollection(video_tags)
    )


@pytest.fixture(scope="module")
def project_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on disk: two datasets, three videos, one of them without labels."""
    root = tmp_path_factory.mktemp("projects") / "original"
    project = sly.VideoProject(str(root), sly.OpenMode.CREATE)
    meta = _meta()
    project.set_meta(meta)
    for name, clips in (("first", ("a.mp4", "b with spaces é.mp4")), ("second", ("a.mp4",))):
        dataset = project.create_dataset(name)
        for number, clip in enumerate(clips):
            path = write_video(root.parent / f"{name}{number}.mp4", frames=9 + number, seed=hash_seed(name, number))
            ann = _annotation(meta, 9 + number) if (name, number) != ("second", 0) else sly.VideoAnnotation((48, 64), 9)
            dataset.add_item_file(clip, str(path), ann=ann)
    return root


def hash_seed(name: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}{number}".encode()).digest()[:4], "big")


def _plain(ann: dict[str, object]) -> object:
    """An annotation's content without what a server makes up: keys, ids, times; in a fixed order."""
    dropped = {
        "key",
        "id",
        "objectKey",
        "objectId",
        "labelerLogin",
        "createdAt",
        "updatedAt",
        "classId",
        "videoId",
        "datasetId",
    }
    dropped |= {"entityId", "tagId", "trackId", "description", "videoName", "isFinished", "nonFinalValue", "priority"}
    titles = {o.get("key", o.get("id")): o["classTitle"] for o in ann["objects"]}  # type: ignore[attr-defined,union-attr]

    def clean(value: object) -> object:
        if isinstance(value, dict):
            rest = {k: clean(v) for k, v in value.items() if k not in dropped}
            owner = value.get("objectKey", value.get("objectId"))
            return rest | ({"of": titles[owner]} if owner in titles else {})
        if isinstance(value, list):
            cleaned = [clean(item) for item in value]
            return sorted(cleaned, key=json.dumps) if cleaned and isinstance(cleaned[0], dict) else cleaned
        return value

    return clean(ann)


def _videos(root: Path) -> Iterator[tuple[str, Path, dict[str, object]]]:
    for dataset in sly.VideoProject(str(root), sly.OpenMode.READ).datasets:
        for name in sorted(dataset):
            video, ann = dataset.get_item_paths(name)
            yield f"{dataset.name}/{name}", Path(video), json.loads(Path(ann).read_text())


def _assert_same(original: Path, copy: Path) -> None:
    before, after = list(_videos(original)), list(_videos(copy))
    assert [name for name, _, _ in before] == [name for name, _, _ in after]
    for (name, video, ann), (_, video_back, ann_back) in zip(before, after, strict=True):
        assert video.read_bytes() == video_back.read_bytes(), f"{name}: the video changed"
        assert _plain(ann) == _plain(ann_back), f"{name}: the annotation changed"
    read = [sly.ProjectMeta.from_json(json.loads((root / "meta.json").read_text())) for root in (original, copy)]
    assert read[0] == read[1]


@pytest.fixture(scope="module")
def uploaded(served: Served, project_dir: Path) -> int:
    project_id, _ = sly.upload_video_project(str(project_dir), served.api, 1, "round trip", log_progress=False)
    return project_id


def test_upload_and_download_give_back_the_same_project(
    served: Served, uploaded: int, project_dir: Path, tmp_path: Path
) -> None:
    sly.download_video_project(served.api, uploaded, str(tmp_path / "copy"), log_progress=False)
    _assert_same(project_dir, tmp_path / "copy")


def test_the_fast_download_gives_the_same(served: Served, uploaded: int, project_dir: Path, tmp_path: Path) -> None:
    asyncio.run(sly.VideoProject.download_async(served.api, uploaded, str(tmp_path / "copy"), log_progress=False))
    _assert_same(project_dir, tmp_path / "copy")


def test_what_came_down_goes_up_again(served: Served, uploaded: int, project_dir: Path, tmp_path: Path) -> None:
    sly.download_video_project(served.api, uploaded, str(tmp_path / "once"), log_progress=False)
    again, name = sly.upload_video_project(str(tmp_path / "once"), served.api, 1, "round trip", log_progress=False)
    assert name != "round trip", "a name that is taken gets a number"
    sly.download_video_project(served.api, again, str(tmp_path / "twice"), log_progress=False)
    _assert_same(project_dir, tmp_path / "twice")


def test_all_seven_geometries_are_in_the_annotation(served: Served, uploaded: int) -> None:
    dataset = served.api.dataset.get_info_by_name(uploaded, "first")
    video = served.api.video.get_info_by_name(dataset.id, "a.mp4")
    ann = sly.VideoAnnotation.from_json(
        served.api.video.annotation.download(video.id),
        sly.ProjectMeta.from_json(served.api.project.get_meta(uploaded)),
        KeyIdMap(),
    )
    kinds = {figure.geometry.geometry_name() for figure in ann.figures}
    assert kinds == set(GEOMETRIES)
    assert len(ann.figures) == (len(GEOMETRIES) * 2 - 1) * 3


def test_counts_and_hashes_are_told(served: Served, uploaded: int, project_dir: Path) -> None:
    info = served.api.project.get_info_by_id(uploaded)
    assert (info.items_count, info.datasets_count) == (3, 2)
    sizes = sum(path.stat().st_size for _, path, _ in _videos(project_dir))
    assert int(info.size) == sizes
    dataset = served.api.dataset.get_info_by_name(uploaded, "second")
    assert dataset.items_count == 1
    [video] = served.api.video.get_list(dataset.id)
    path = project_dir / "second" / "video" / "a.mp4"
    assert video.hash == base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()


def test_nested_datasets_survive(served: Served, clip: Path, tmp_path: Path) -> None:
    api = served.api
    project = api.project.create(1, "nested", sly.ProjectType.VIDEOS)
    outer = api.dataset.create(project.id, "outer")
    inner = api.dataset.create(project.id, "inner", parent_id=outer.id)
    api.video.upload_path(inner.id, "clip.mp4", str(clip))
    tree = {(*parents, info.name) for parents, info in api.dataset.tree(project.id)}
    assert tree == {("outer",), ("outer", "inner")}
    assert [d.name for d in api.dataset.get_list(project.id)] == ["outer"]
    sly.download_video_project(api, project.id, str(tmp_path / "copy"), log_progress=False)
    [(name, video, _)] = [found for found in _videos(tmp_path / "copy") if found[1].exists()]
    assert name.startswith("outer/") and "inner" in name
    assert video.read_bytes() == clip.read_bytes()
