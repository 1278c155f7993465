"""The workbench that tests talk to, and what they find in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import supervisely as sly

from apps.workbench.settings import Settings
from tests.apps.workbench.harness import Labelled, Running, Served, free_port, write_video


@pytest.fixture(scope="session", autouse=True)
def _sdk_speaks_plain_http() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "true")
        yield


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One workbench for a whole module; tests make projects of their own in it. Faults are on."""
    data = tmp_path_factory.mktemp("workbench") / "data"
    with Running(Settings(data, port=free_port(), faults=True, max_body_bytes=4 << 20, max_upload_bytes=8 << 20)) as it:
        yield it


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 12 frames, 64 x 48."""
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def labelled(served: Served, clip: Path, request: pytest.FixtureRequest) -> Labelled:
    api = served.api
    project = api.project.create(1, request.node.name[:100], sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    meta = sly.ProjectMeta(
        obj_classes=[
            sly.ObjClass("box", sly.Rectangle),
            sly.ObjClass("any", sly.AnyGeometry),
            sly.ObjClass("mask", sly.Bitmap),
        ],
        tag_metas=[
            sly.TagMeta("none", sly.TagValueType.NONE),
            sly.TagMeta("text", sly.TagValueType.ANY_STRING),
            sly.TagMeta("number", sly.TagValueType.ANY_NUMBER),
            sly.TagMeta("one", sly.TagValueType.ONEOF_STRING, possible_values=["a", "b"]),
        ],
        project_type=sly.ProjectType.VIDEOS.value,
    )
    stored = api.project.update_meta(project.id, meta)
    dataset = api.dataset.create(project.id, "ds")
    video = api.video.upload_path(dataset.id, "clip.mp4", str(clip))
    return Labelled(
        project.id,
        dataset.id,
        video,
        {entry.name: entry.sly_id for entry in stored.obj_classes},
        {entry.name: entry.sly_id for entry in stored.tag_metas},
    )
