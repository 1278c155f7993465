"""Projects of images through the unmodified SDK: up, down, listed, copied, changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervisely as sly
from requests import HTTPError

from tests.apps.workbench.harness import Served
from tests.apps.workbench.image_projects import HEIGHT, WIDTH, Pictured, annotation, encoded, meta, pictured

__all__ = ["pictured"]


@pytest.fixture(scope="module")
def project_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, one nested; PNG and JPEG; one image without labels."""
    root = tmp_path_factory.mktemp("projects") / "original"
    project = sly.Project(str(root), sly.OpenMode.CREATE)
    project.set_meta(meta())
    outer = project.create_dataset("first")
    outer.add_item_raw_bytes("a.png", encoded(1), annotation(meta()))
    outer.add_item_raw_bytes("b with spaces é.jpg", encoded(2, ".jpg"), annotation(meta(), ("rectangle",)))
    inner = project.create_dataset("inner", "first/datasets/inner")
    inner.add_item_raw_bytes("a.png", encoded(3), sly.Annotation((HEIGHT, WIDTH)))
    return root


def _plain(value: object) -> object:
    """Without what a server makes up."""
    dropped = {"id", "classId", "tagId", "labelerLogin", "createdAt", "updatedAt", "entityId", "imageId", "shape"}
    dropped |= {"customBigData", "isFinished"}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in dropped}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _items(root: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    for dataset in sly.Project(str(root), sly.OpenMode.READ).datasets:
        for name in sorted(dataset):
            image, ann = dataset.get_item_paths(name)
            yield f"{dataset.name}/{name}", Path(image), json.loads(Path(ann).read_text())


def _assert_same(original: Path, copy: Path) -> None:
    before, after = list(_items(original)), list(_items(copy))
    assert len(before) == 3
    assert [name for name, *_ in before] == [name for name, *_ in after]
    for (name, image, ann), (_, image_back, ann_back) in zip(before, after, strict=True):
        assert image.read_bytes() == image_back.read_bytes(), f"{name}: the picture changed"
        by_class = sorted(_plain(ann)["objects"], key=lambda o: o["classTitle"])  # type: ignore[index]
        back = sorted(_plain(ann_back)["objects"], key=lambda o: o["classTitle"])  # type: ignore[index]
        assert by_class == back, name
        for part in ("tags", "size", "description"):
            assert _plain(ann[part]) == _plain(ann_back[part]), name
    read = [sly.ProjectMeta.from_json(json.loads((root / "meta.json").read_text())) for root in (original, copy)]
    assert read[0] == read[1]


@pytest.fixture(scope="module")
def uploaded(served: Served, project_dir: Path) -> int:
    project_id, _ = sly.upload_project(str(project_dir), served.api, 1, "pictures", log_progress=False)
    return int(project_id)


def test_upload_and_download_give_back_the_same_project(
    served: Served, uploaded: int, project_dir: Path, tmp_path: Path
) -> None:
    sly.download_project(served.api, uploaded, str(tmp_path / "copy"), log_progress=False)
    _assert_same(project_dir, tmp_path / "copy")


def test_the_fast_download_gives_the_same(served: Served, uploaded: int, project_dir: Path, tmp_path: Path) -> None:
    asyncio.run(sly.Project.download_async(served.api, uploaded, str(tmp_path / "copy")))
    _assert_same(project_dir, tmp_path / "copy")


def test_what_came_down_goes_up_again(served: Served, uploaded: int, project_dir: Path, tmp_path: Path) -> None:
    sly.download_project(served.api, uploaded, str(tmp_path / "once"), log_progress=False)
    again, name = sly.upload_project(str(tmp_path / "once"), served.api, 1, "pictures", log_progress=False)
    assert name != "pictures"
    sly.download_project(served.api, again, str(tmp_path / "twice"), log_progress=False)
    _assert_same(project_dir, tmp_path / "twice")
    info = served.api.project.get_info_by_id(again)
    assert (info.type, info.items_count, info.datasets_count) == ("images", 3, 2)
    assert int(info.size) == sum(path.stat().st_size for _, path, _ in _items(project_dir))


def test_every_way_to_download_gives_the_bytes_that_came(served: Served, pictured: Pictured, tmp_path: Path) -> None:
    api, ids = served.api, [image.id for image in pictured.images]
    api.image.upload_path(pictured.dataset, "x.jpg", _file(tmp_path / "x.jpg", encoded(9, ".jpg")))
    last = api.image.get_info_by_name(pictured.dataset, "x.jpg")
    assert (last.width, last.height, last.mime, last.ext) == (WIDTH, HEIGHT, "image/jpeg", "jpeg")
    assert last.size == len(encoded(9, ".jpg"))
    api.image.download_path(last.id, str(tmp_path / "back.jpg"))
    assert (tmp_path / "back.jpg").read_bytes() == encoded(9, ".jpg")
    whole = api.image.download_bytes(pictured.dataset, [last.id, ids[1]])
    assert whole[0] == encoded(9, ".jpg")
    many = api.image.download_nps(pictured.dataset, ids)
    expected = cv2.imdecode(np.frombuffer(encoded(1), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(many[1], expected)
    api.image.download_paths_by_hashes([last.hash], [str(tmp_path / "hash.jpg")])
    assert (tmp_path / "hash.jpg").read_bytes() == encoded(9, ".jpg")
    part = served.call("images.download", {"id": last.id}).content
    assert part == encoded(9, ".jpg")


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_content_is_known_by_its_hash_and_copied_without_upload(served: Served, pictured: Pictured) -> None:
    api = served.api
    first = pictured.images[0]
    assert api.image.check_image_uploaded(first.hash)
    assert not api.image.check_image_uploaded("A" * 43 + "=")
    other = api.dataset.create(pictured.project, "other")
    [by_hash] = api.image.upload_hashes(other.id, ["h.png"], [first.hash])
    [by_id] = api.image.upload_ids(other.id, ["i.png"], [first.id])
    [copied] = api.image.copy_batch(other.id, [first.id], with_annotations=True)
    assert {by_hash.hash, by_id.hash, copied.hash} == {first.hash}
    assert copied.name == first.name
    assert api.image.get_info_by_id(copied.id).labels_count == 3


def test_lists_filter_sort_and_page(served: Served, pictured: Pictured) -> None:
    api, ids = served.api, [image.id for image in pictured.images]
    names = lambda found: [one.name for one in found]  # noqa: E731
    assert names(api.image.get_list(pictured.dataset, sort="name", sort_order="desc")) == ["2.png", "1.png", "0.png"]
    conditions = [{"field": "name", "operator": "=", "value": "1.png"}]
    assert names(api.image.get_list(pictured.dataset, conditions)) == ["1.png"]
    assert names(api.image.get_list(project_id=pictured.project, only_labelled=True)) == ["0.png"]
    assert [one.labels_count for one in api.image.get_info_by_id_batch(ids[::-1])] == [0, 0, 3]
    batches = list(api.image.get_list_generator(pictured.dataset, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1]
    by_name = [{"type": "images_filename", "data": {"value": "2"}}]
    assert names(api.image.get_filtered_list(pictured.dataset, by_name)) == ["2.png"]
    tag = pictured.meta.get_tag_meta("plain").sly_id
    tagged = [{"type": "images_tag", "data": {"tagId": tag, "include": True}}]
    assert names(api.image.get_filtered_list(pictured.dataset, tagged)) == ["0.png"]
    untagged = [{"type": "images_tag", "data": {"tagId": tag, "include": False}}]
    assert names(api.image.get_filtered_list(pictured.dataset, untagged)) == ["1.png", "2.png"]
    label_tag = {"tagId": pictured.meta.get_tag_meta("amount").sly_id, "include": True}
    assert names(api.image.get_filtered_list(pictured.dataset, [{"type": "objects_tag", "data": label_tag}])) == [
        "0.png"
    ]
    nested = api.dataset.create(pictured.project, "nested", parent_id=pictured.dataset)
    api.image.upload_ids(nested.id, ["n.png"], [ids[0]])
    assert len(api.image.get_list(pictured.dataset)) == 3
    assert len(api.image.get_list(pictured.dataset, recursive=True)) == 4
    pages = served.call("images.list", {"datasetId": pictured.dataset, "per_page": 2, "page": 2}).json()
    assert (pages["total"], pages["pagesCount"], len(pages["entities"])) == (3, 2, 1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"datasetId": 1},
        {"datasetId": "DATASET", "filter": [{"field": "secret", "operator": "=", "value": 1}]},
        {"datasetId": "DATASET", "filters": [{"type": "job", "data": {}}]},
        {"datasetId": "DATASET", "filters": [{"type": "images_tag"}]},
        {"datasetId": "DATASET", "sort": "hash; DROP TABLE images"},
    ],
)
def test_lists_that_mean_nothing_are_refused(served: Served, pictured: Pictured, body: dict[str, Any]) -> None:
    body = {key: pictured.dataset if value == "DATASET" else value for key, value in body.items()}
    assert served.call("images.list", body).status_code in (400, 404)


def test_names_conflict_as_the_sdk_resolves(served: Served, pictured: Pictured) -> None:
    api = served.api
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(HTTPError):
        api.image.upload_np(pictured.dataset, "0.png", picture)
    [renamed] = api.image.upload_nps(pictured.dataset, ["0.png"], [picture], conflict_resolution="rename")
    assert renamed.name.startswith("0_")
    [replaced] = api.image.upload_nps(pictured.dataset, ["0.png"], [picture], conflict_resolution="replace")
    assert replaced.id != pictured.images[0].id
    assert api.image.get_info_by_id(pictured.images[0].id) is None


def test_change_and_remove(served: Served, pictured: Pictured) -> None:
    api, image = served.api, pictured.images[1]
    assert api.image.rename(image.id, "new.png").name == "new.png"
    assert api.image.edit(image.id, description="words", meta={"a": 1}).meta == {"a": 1}
    assert api.image.get_info_by_id(image.id).description == "words"
    api.image.remove_batch([image.id])
    assert api.image.get_info_by_id(image.id) is None
    assert api.dataset.get_info_by_id(pictured.dataset).items_count == 2


def test_clean_up_keeps_what_is_in_use(served: Served, pictured: Pictured) -> None:
    kept = pictured.images[0]
    gone = served.api.image.upload_np(pictured.dataset, "gone.png", np.full((9, 7, 3), 77, np.uint8))
    served.api.image.remove(gone.id)
    assert served.call("instance.data.cleanup-unused").status_code == 200
    assert served.api.image.check_image_uploaded(kept.hash)
    assert not served.api.image.check_image_uploaded(gone.hash)
