"""The calls by which the SDK was recorded filling an instance and emptying it (01 in ../shared/spec/traffic), made again as they
were against the workbench: same order, numbers translated, replies of the same form."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from apps.workbench.settings import Settings
from tests.apps.workbench.harness import Running, Served, free_port, rectangle, write_video
from tests.common.serving.recorded import TRAFFIC, same_form

FILE = TRAFFIC.parent / "01_sdk_upload_export_roundtrip.json"
NO_REPLY = {"videos.download", "videos.download-frame", "videos.bulk.download-frame"}


def test_the_recorded_session_runs_against_the_workbench(tmp_path: Path) -> None:
    if not FILE.is_file():
        pytest.skip(f"the recorded calls are not here ({FILE.name} in ../shared/spec/traffic)")
    groups: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text())
    video = write_video(tmp_path / "clip.mp4", frames=60)
    with Running(Settings(tmp_path / "data", port=free_port())) as served:
        replay = _Replay(served, video)
        made = [replay.call(call) for calls in groups.values() for call in calls if "body" in call]
    assert len(made) > 25 and len(set(made)) > 20, "that was the whole session"


class _Replay:
    """Makes recorded calls; what the recording calls 1012 is here what was made in its place."""

    def __init__(self, served: Served, video: Path) -> None:
        self._served, self._video = served, video.read_bytes()
        self._ids: dict[int, int] = {}
        self._texts: dict[str, str] = {}

    def call(self, recorded: dict[str, Any]) -> str:
        method: str = recorded["path"].rsplit("/", 1)[-1]
        theirs = recorded.get("response")
        if method == "videos.bulk.upload":
            reply = self._upload()
            self._texts[theirs[0]["hash"]] = reply.json()[0]["hash"]
        else:
            body = self._repaired(method, self._translated(recorded["body"]))
            if method == "images.internal.hashes.list":
                body = [base64.b64encode(hashlib.sha256(self._video).digest()).decode()]
            reply = self._served.call(method, body)
        assert reply.status_code == recorded["status"] == 200, f"{method}: {reply.text}"
        if method in NO_REPLY:
            self._check_bytes(method, reply, theirs)
        elif not (isinstance(theirs, dict) and "note" in theirs):
            ours = reply.json()
            same_form(ours, _without_keys(theirs), method)
            self._learn(theirs, ours)
            if method == "projects.meta.update":
                self._ids[1010] = next(tag["id"] for tag in ours["tags"] if tag["name"] == "txt")
        return method

    def _upload(self) -> requests.Response:
        return requests.post(
            f"{self._served.settings.address}/public/api/v3/videos.bulk.upload",
            files={"0-file": ("0", self._video, "video/*")},
            headers=self._served.headers,
            timeout=30,
        )

    def _check_bytes(self, method: str, reply: requests.Response, theirs: dict[str, Any]) -> None:
        if method == "videos.download":
            assert reply.content == self._video
        elif "_multipart" in theirs:
            first = theirs["_multipart"][0]  # name="1"; filename="1.png"; image/png
            name, filename, _ = (part.strip() for part in first.split(";"))
            assert f"form-data; {name}; {filename}".encode() in reply.content
        else:
            assert reply.headers["content-type"] in ("image/png", "image/jpeg")

    def _translated(self, value: Any, key: str = "") -> Any:
        """With our numbers, and without what the recording left out ("…")."""
        if isinstance(value, dict):
            return {name: self._translated(part, name) for name, part in value.items() if not _cut(part)}
        if isinstance(value, list):
            return [self._translated(part, key) for part in value if not _cut(part)]
        if isinstance(value, str):
            return self._texts.get(value, value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._ids.get(value, value) if key.lower().endswith(("id", "ids", "value")) else value
        return value

    @staticmethod
    def _repaired(method: str, body: Any) -> Any:
        """Puts something in the place of what the recording shortened within an item."""
        if method == "projects.meta.update":
            body["meta"]["tags"].append({"name": "txt", "value_type": "any_string", "color": "#00FF00"})
        if isinstance(body, dict):
            body.pop("fields", None)  # a list that was shortened; without it all fields come
        if method == "figures.bulk.add":
            for figure in body["figures"]:
                figure["geometry"] = rectangle()
        return body

    def _learn(self, theirs: Any, ours: Any) -> None:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for key in theirs.keys() & ours.keys():
                if key.lower().endswith("id") and type(theirs[key]) is int and type(ours[key]) is int:
                    assert self._ids.setdefault(theirs[key], ours[key]) == ours[key], f"{key}: two numbers for one"
                elif key == "hash" and isinstance(ours[key], str):
                    assert self._texts.get(theirs[key]) == ours[key]
                else:
                    self._learn(theirs[key], ours[key])
        elif isinstance(theirs, list) and isinstance(ours, list):
            for a, b in zip(theirs, ours, strict=False):
                self._learn(a, b)


def _cut(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("…")


def _without_keys(value: Any) -> Any:
    """The recording instance gave everything back that it was sent, the SDK's own keys too; no client reads those."""
    if isinstance(value, dict):
        return {name: _without_keys(part) for name, part in value.items() if name not in ("key", "objectKey")}
    return [_without_keys(part) for part in value] if isinstance(value, list) else value
