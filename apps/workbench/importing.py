"""Videos from this machine's disk into the workbench, with the labels that go with them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from apps.workbench.bench import Workbench
from apps.workbench.media import probe
from apps.workbench.store import figures, objects, projects, videos
from apps.workbench.store.models import Dataset, ObjectClass, Project, Video
from apps.workbench.store.projects import WORKSPACE_ID
from common.errors import VideoUnreadable
from common.geometry.annotation import Annotation
from common.geometry.meta import ProjectMeta
from common.geometry.supervisely import geometry_type, to_json

DATASET = "videos"
_CHUNK = 1 << 20


def import_video(
    bench: Workbench, path: Path, project: str, annotation: Annotation | None = None, meta: ProjectMeta | None = None
) -> int:
    """The id of the video in that project, which is made when it is missing. A video of that name is not imported twice.

    annotation, meta: labels for a video that is imported now. Raises `VideoUnreadable` for a file that is no video.
    """
    with bench.database.read() as session:
        known = _find(session, project, path.name)
    if known is not None:
        return known
    return _add(bench, _keep(bench, path, path.name), path.name, project, annotation, meta)


def add_upload(bench: Workbench, path: Path, name: str, project: str) -> int:
    """The same for a file that came through the page under that name; another file of that name gets a number after it."""
    hash = _keep(bench, path, name)
    stem, dot, ending = name.rpartition(".")
    for number in range(1, 10_000):
        title = name if number == 1 else f"{stem} ({number}){dot}{ending}" if stem else f"{name} ({number})"
        with bench.database.read() as session:
            known = _find(session, project, title)
            if known is None:
                break
            if videos.get_video(session, known).hash == hash:
                return known
    return _add(bench, hash, title, project)


def _add(
    bench: Workbench,
    hash: str,
    title: str,
    project: str,
    annotation: Annotation | None = None,
    meta: ProjectMeta | None = None,
) -> int:
    with bench.database.write() as session:
        project_row = session.scalar(select(Project).where(Project.name == project))
        if project_row is None:
            project_row = projects.add_project(session, name=project, workspace_id=WORKSPACE_ID, type="videos")
        dataset = session.scalar(select(Dataset).where(Dataset.project_id == project_row.id, Dataset.name == DATASET))
        if dataset is None:
            dataset = projects.add_dataset(session, project_id=project_row.id, name=DATASET)
        (video,) = videos.add_videos(session, dataset.id, [{"title": title, "hash": hash}])
        if annotation is not None and meta is not None:
            projects.update_meta(session, project_row.id, meta.to_json())
            _add_labels(session, video, annotation)
        return video.id


def _find(session: Session, project: str, name: str) -> int | None:
    return session.scalar(
        select(Video.id)
        .join(Project, Video.project_id == Project.id)
        .where(Project.name == project, Video.name == name)
    )


def _keep(bench: Workbench, path: Path, name: str) -> str:
    """Copies the file into the workbench's own folder, by content; its hash."""
    try:
        with bench.blobs.incoming() as incoming, path.open("rb") as file:
            while piece := file.read(_CHUNK):
                incoming.write(piece)
            hash = incoming.finish()
            with bench.database.read() as session:
                known = videos.known_videos(session, [hash])
            meta = None if known else probe(incoming.path, name)
            with bench.database.write() as session:
                bench.blobs.keep(incoming)
                videos.remember_blob(session, hash, incoming.size, meta)
    except OSError as error:
        raise VideoUnreadable(f"{name} cannot be read: {error.strerror or error}.") from error
    return hash


def _add_labels(session: Session, video: Video, annotation: Annotation) -> None:
    rows = session.execute(select(ObjectClass.name, ObjectClass.id).where(ObjectClass.project_id == video.project_id))
    classes = dict(rows.all())
    made = objects.add_objects(
        session,
        video.dataset_id,
        [{"classId": classes[o.class_name], "entityId": video.id} for o in annotation.objects.values()],
    )
    idents = dict(zip(annotation.objects, made, strict=True))
    figures.add_figures(
        session,
        [
            {
                "entityId": video.id,
                "objectId": idents[figure.key],
                "geometryType": geometry_type(figure.geometry),
                "geometry": to_json(figure.geometry, annotation.width, annotation.height),
                "meta": {"frame": frame},
            }
            for frame, drawn in annotation.key_figures().items()
            for figure in drawn
        ],
    )
