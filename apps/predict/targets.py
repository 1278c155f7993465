"""Where results go: the videos themselves, or a new project with the same datasets and the same videos by reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.predict.schema import Input, RunParameters, check_images
from apps.predict.store import JobStore
from common.errors import ServerUnreachable, UserError
from common.supervisely_io.listing import entities, where
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video, videos


def chosen_videos(server: Server, chosen: Input) -> list[VideoRecord]:
    """In the order of datasets and videos. Raises `UserError` for what is no video, or nothing."""
    check_images(chosen)
    if chosen.video_ids:
        return [video(server, ident) for ident in dict.fromkeys(chosen.video_ids)]
    found: dict[int, VideoRecord] = {}
    for dataset in _datasets(server, chosen):
        found |= {one.id: one for one in videos(server, dataset)}
    if not found:
        raise UserError("There are no videos in what was chosen.")
    return list(found.values())


def _datasets(server: Server, chosen: Input) -> Iterator[int]:
    if chosen.project_id is None and not chosen.dataset_ids:
        raise UserError("Choose videos, datasets or a project.")
    if chosen.dataset_ids:
        owners = {int(server.call("datasets.info", {"id": ident})["projectId"]) for ident in chosen.dataset_ids}
        if len(owners) > 1:
            raise UserError("The datasets are of several projects; start one run for each.")
        project = owners.pop()
    else:
        assert chosen.project_id is not None
        project = chosen.project_id
    info = server.call("projects.info", {"id": project})
    if info.get("type") not in (None, "videos"):
        raise UserError(f"The project {info.get('name')} holds {info['type']}; this app labels videos.")
    rows = list(entities(server, "datasets.list", {"projectId": project, "recursive": True}))
    wanted = set(chosen.dataset_ids) or {int(row["id"]) for row in rows}
    for row in rows:  # by rising id: parents come before what is in them
        if int(row["id"]) in wanted or (row.get("parentId") and int(row["parentId"]) in wanted):
            wanted.add(int(row["id"]))
            yield int(row["id"])


class Targets:
    """Makes what a job's results need on the server, each thing once, also over restarts."""

    def __init__(self, server: Server, parameters: RunParameters, store: JobStore, job: str) -> None:
        self._server, self._output, self._store, self._job = server, parameters.output, store, job
        self._datasets: dict[int, dict[str, Any]] = {}

    def of(self, source: VideoRecord) -> VideoRecord:
        """The video that gets the labels of `source`."""
        if self._output.upload_to_source_project:
            self._store.set_project(self._job, source.project_id)
            return source
        project = self._project(source)
        dataset = self._dataset(source.project_id, source.dataset_id, project)
        known = self._store.made(self._job, "video", source.id)
        if known is None:
            known = self._add_video(source, dataset)
            self._store.note_made(self._job, "video", source.id, known)
        return video(self._server, known)

    def _project(self, source: VideoRecord) -> int:
        known = self._store.made(self._job, "project", 0)
        if known is not None:
            return known
        info = self._server.call("projects.info", {"id": source.project_id})
        workspace = int(info["workspaceId"])
        mark = f"Made by Predict, job {self._job}."
        taken = set()
        for row in entities(self._server, "projects.list", {"workspaceId": workspace}):
            taken.add(str(row["name"]))
            if row.get("description") == mark:  # made before a restart that came before it was noted
                known = int(row["id"])
        if known is None:
            name, number = str(self._output.project_name), 1
            while name in taken:
                number += 1
                name = f"{self._output.project_name} ({number})"
            asked = {"name": name, "workspaceId": workspace, "description": mark, "type": "videos"}
            known = int(self._server.call("projects.add", asked)["id"])
        meta = self._server.call("projects.meta", {"id": source.project_id})
        kept = {"classes": meta.get("classes", []), "tags": meta.get("tags", []), "projectType": "videos"}
        self._server.call("projects.meta.update", {"id": known, "meta": kept})
        self._store.note_made(self._job, "project", 0, known)
        self._store.set_project(self._job, known)
        return known

    def _dataset(self, source_project: int, source: int, project: int) -> int:
        known = self._store.made(self._job, "dataset", source)
        if known is not None:
            return known
        if source not in self._datasets:
            rows = entities(self._server, "datasets.list", {"projectId": source_project, "recursive": True})
            self._datasets |= {int(row["id"]): row for row in rows}
        row = self._datasets[source]
        parent = row.get("parentId")
        above = None if not parent else self._dataset(source_project, int(parent), project)
        there = entities(self._server, "datasets.list", {"projectId": project, "recursive": True})
        same = [
            int(d["id"]) for d in there if d["name"] == row["name"] and (d.get("parentId") or None) == (above or None)
        ]
        if same:
            known = same[0]
        else:
            asked = {"projectId": project, "name": row["name"], "description": "", "parentId": above}
            known = int(self._server.call("datasets.add", asked)["id"])
        self._store.note_made(self._job, "dataset", source, known)
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
