"""Where results go: the videos or images themselves, or a new project with the same datasets and the same files by
reference."""

from __future__ import annotations

from typing import Any

from apps.predict.chosen import Kind
from apps.predict.schema import RunParameters
from apps.predict.store import JobStore
from common.errors import ServerUnreachable
from common.supervisely_io.copies import DatasetCopies, copy_meta, new_project
from common.supervisely_io.images import ImageRecord
from common.supervisely_io.listing import entities, where
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video


class Targets:
    """Makes what a job's results need on the server, each thing once, also over restarts."""

    def __init__(self, server: Server, parameters: RunParameters, store: JobStore, job: str, kind: Kind) -> None:
        self._server, self._output, self._store, self._job = server, parameters.output, store, job
        self._kind = kind
        self._datasets: DatasetCopies | None = None

    def of(self, source: VideoRecord) -> VideoRecord:
        """The video that gets the labels of `source`."""
        project, dataset = self.dataset(source)
        if project == source.project_id:
            return source
        known = self._store.made(self._job, "video", source.id)
        if known is None:
            known = self._add_video(source, dataset)
            self._store.note_made(self._job, "video", source.id, known)
        return video(self._server, known)

    def dataset(self, source: VideoRecord | ImageRecord) -> tuple[int, int]:
        """Project and dataset that get the labels of `source`."""
        if self._output.upload_to_source_project:
            self._store.set_project(self._job, source.project_id)
            return source.project_id, source.dataset_id
        project = self._project(source.project_id)
        if self._datasets is None:
            self._datasets = DatasetCopies(
                self._server,
                project,
                lambda ident: self._store.made(self._job, "dataset", ident),
                lambda ident, made: self._store.note_made(self._job, "dataset", ident, made),
            )
        return project, self._datasets.of(source.project_id, source.dataset_id)

    def _project(self, source: int) -> int:
        known = self._store.made(self._job, "project", 0)
        if known is None:
            info = self._server.call("projects.info", {"id": source})
            mark = f"Made by Predict, job {self._job}."
            name = str(self._output.project_name)
            known = new_project(self._server, int(info["workspaceId"]), name, self._kind, mark)
            copy_meta(self._server, source, known, self._kind)
            self._store.note_made(self._job, "project", 0, known)
            self._store.set_project(self._job, known)
        return known

    def _add_video(self, source: VideoRecord, dataset: int) -> int:
        asked = {"datasetId": dataset, "rawVideoMeta": False, "forceMetadataForLinks": False}
        for row in entities(self._server, "videos.list", asked, [where("name", "=", source.name)]):
            if str(row.get("name")) == source.name:
                return int(row["id"])
        new: dict[str, Any] = {"title": source.name, "meta": {"videoStreamIndex": 0}}
        new |= {"hash": source.hash} if source.hash else {"id": source.id}
        payload = {"datasetId": dataset, "videos": [new], "forceMetadataForLinks": True}
        added = self._server.call("videos.bulk.add", payload)
        if not added:
            raise ServerUnreachable(f"The server did not copy the video {source.name}.", True)
        return int(added[0]["id"])
