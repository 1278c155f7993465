"""Pictures for the detector app: files, images of a server, addresses; spoken to by the SDK's own clients."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from supervisely.nn.inference import Session
from supervisely.nn.model.model_api import ModelAPI

from apps.detector.main import CONFIG
from common.serving.access import Access
from tests.apps.detector.harness import DetectorRunning, lefts, near, picture, png
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import HEIGHT, ROWS, WIDTH, Client, wait_until


def test_files_are_looked_at(app: Client, served: Served, tmp_path: Path) -> None:
    paths = []
    for x in (30, 60, 90):
        path = tmp_path / f"{x}.png"
        path.write_bytes(png(picture(x)))
        paths.append(str(path))
    session = Session(served.api, session_url=app.address)
    one = session.inference_image_path(paths[0])
    assert [label.obj_class.name for label in one.labels] == ["car"]
    assert near(one.labels[0].geometry.left, 30, 2) and one.labels[0].tags.get("confidence").value == 0.9
    several = session.inference_image_paths(paths)
    assert [round(a.labels[0].geometry.left / 30) for a in several] == [1, 2, 3]
    # (the SDK's client forgets its own iterator for arrays and lists of paths; folders and files work)
    predictions = list(ModelAPI(served.api, url=app.address).predict_detached(input=str(tmp_path)))
    assert sorted(round(p.boxes[0][1] / 30) for p in predictions) == [1, 2, 3]
    assert predictions[0].scores == [0.9]


def test_settings_choose_what_is_given(app: Client, served: Served, tmp_path: Path) -> None:
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    for row in ROWS:
        image[row : row + 28, 40:76] = 220
    model = ModelAPI(served.api, url=app.address)
    path = tmp_path / "picture.png"
    path.write_bytes(png(image))

    def classes(**more: Any) -> list[str]:
        (one,) = list(model.predict_detached(input=str(path), **more))
        return list(one.classes)

    assert sorted(classes()) == ["car", "car", "dog"]
    assert classes(conf=0.8) == ["car", "car"]
    assert classes(classes=["dog"]) == ["dog"]
    assert classes(inference_settings={"per_class_thresholds": {"car": 0.95}}) == ["dog"]
    assert classes(inference_settings={"max_detections": 1}) == ["car"]
    for settings in ({"classes": ["cat"]}, {"conf": "high"}, {"conf": 3}, {"classes": "dog"}, "nonsense"):
        state = json.dumps({"settings": settings})
        reply = app.files("inference_image", [png(image)], state)
        assert reply.status_code == 400 and reply.json()["message"], settings


class Site:
    """Gives these files; /away leads to a place inside the network."""

    def __init__(self, files: dict[str, bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = files.get(self.path)
                self.send_response(302 if self.path == "/away" else 404 if content is None else 200)
                if self.path == "/away":
                    self.send_header("location", "http://169.254.169.254/latest")
                self.send_header("content-length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Pictured:
    """A server with three pictures, which the workbench has none of."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
                method = self.path.rpartition("/")[2]
                ident = body.get("id")
                about = {"id": ident, "name": f"{ident}.png", "datasetId": 5, "projectId": 4}
                if method == "images.info" and ident in (1, 2, 3):
                    self.answer(json.dumps(about).encode())
                elif method == "images.download" and ident in (1, 2, 3):
                    self.answer(png(picture(30 * ident)))
                elif method == "datasets.list":
                    self.answer(json.dumps(self.page([{"id": 5, "name": "ds"}])).encode())
                elif method == "images.list":
                    self.answer(json.dumps(self.page([{"id": n} for n in (1, 2, 3)])).encode())
                else:
                    self.answer(b'{"error": "no such image"}', 404)

            @staticmethod
            def page(found: list[Any]) -> dict[str, Any]:
                return {"total": len(found), "perPage": 500, "pagesCount": 1, "entities": found}

            def answer(self, content: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_pictures_of_the_server_are_looked_at(served: Served, tmp_path: Path) -> None:

    pictures = Pictured()
    access = Access(served.settings.address, served.bench.token, frozenset({pictures.address}))
    with DetectorRunning(served, tmp_path, CONFIG, access=access) as client:
        there = replace(client, server=pictures.address)
        reply = there.post("inference_image_id", {}, {"image_id": 2})
        assert reply.status_code == 200, reply.text
        assert near(lefts(reply.json()["annotation"])[0], 60, 2) and reply.json()["image_id"] == 2
        several = there.post("inference_batch_ids", {}, {"batch_ids": [3, 1, 2]}).json()
        assert [one["image_id"] for one in several] == [3, 1, 2]
        assert [round(lefts(one["annotation"])[0] / 30) for one in several] == [3, 1, 2]
        for command, state in (
            ("inference_batch_ids_async", {"images_ids": [1, 2, 3]}),
            ("inference_image_id_async", {"image_id": 1}),
            ("inference_project_id_async", {"projectId": 4}),
        ):
            started = there.post(command, {}, state)
            assert started.status_code == 200, started.text
            uuid = {"inference_request_uuid": started.json()["inference_request_uuid"]}
            wait_until(lambda uuid=uuid: there.post("get_inference_progress", {}, uuid).json()["finished"])
            popped = there.post("pop_inference_results", {}, uuid).json()
            ids = [one["image_id"] for one in popped["pending_results"]]
            assert ids == ([1] if "image_id" in state else [1, 2, 3])
            assert popped["progress"]["current"] == popped["progress"]["total"] == len(ids)
        assert there.post("inference_image_id", {}, {"image_id": 9}).status_code == 404
        assert there.post("inference_image_id", {}, {}).status_code == 400
    pictures.close()


@pytest.mark.parametrize("command", ["inference_image", "inference_batch", "inference_batch_async"])
def test_files_become_images_with_what_is_found(app: Client, served: Served, command: str) -> None:
    """Each once, also when the same is sent again; by a caller with a token of their own only."""
    project = served.api.project.create(1, command, change_name_if_conflict=True).id
    files = [png(picture(x)) for x in ((30,) if command == "inference_image" else (30, 60, 90))]
    state = {"output_project_id": project, "upload_mode": "replace", "api_token": app.token, "batch_size": 2}

    def send(said: dict[str, Any]) -> requests.Response:
        reply = app.files(command, files, json.dumps(said))
        if command.endswith("async") and reply.status_code == 200:
            uuid = {"inference_request_uuid": reply.json()["inference_request_uuid"]}
            wait_until(lambda: app.post("get_inference_progress", {}, uuid).json()["finished"])
            assert app.post("get_inference_result", {}, uuid).json() == {"project_id": project}
            return app.post("pop_inference_results", {}, uuid)
        return reply

    for _ in range(2):
        reply = send(state)
        assert reply.status_code == 200, reply.text
        told = reply.json()["pending_results"] if command.endswith("async") else reply.json()
        told = told if isinstance(told, list) else [told]
        images = served.api.image.get_list(project_id=project)
        assert [one["image_id"] for one in told] == [i.id for i in images] and len(images) == len(files)
        assert [i.name for i in images] == [f"{n}.png" for n in range(len(files))]
        for number, image in enumerate(images):
            [found] = served.api.annotation.download_json(image.id)["objects"]
            assert found["classTitle"] == "car" and near(found["points"]["exterior"][0][0], 30 * (number + 1), 2)
        assert served.api.image.download_np(images[0].id).shape == (HEIGHT, WIDTH, 3)
    assert send({k: v for k, v in state.items() if k != "api_token"}).status_code == 401
    assert send(state | {"server_address": "http://other.example"}).status_code == 403
    assert send({"upload_mode": "append", "api_token": app.token}).status_code == 400
    assert send({"upload_mode": "overwrite", "api_token": app.token}).status_code == 400


def test_a_new_project_for_a_file(app: Client, served: Served) -> None:
    state = {"upload_mode": "create", "workspace_id": 1, "api_token": app.token}
    reply = app.files("inference_image", [png(picture(30))], json.dumps(state))
    project = served.api.project.get_info_by_id(reply.json()["project_id"])
    assert project.name.startswith("Predictions") and project.items_count == 1


def test_a_picture_from_an_allowed_address(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only from there, only so large, and stored where it is asked for."""
    site = Site({"/cars/one%20car.png": png(picture(60)), "/much": bytes(300_000), "/text": b"no picture"})
    monkeypatch.setenv("ALLOWED_PICTURE_HOSTS", site.host)
    project = served.api.project.create(1, "addresses", change_name_if_conflict=True).id
    with site, DetectorRunning(served, tmp_path, CONFIG, max_upload_bytes=200_000) as client:

        def ask(path: str, **more: Any) -> requests.Response:
            return client.post("inference_image_url", {}, {"image_url": f"http://{site.host}{path}", **more})

        assert near(lefts(ask("/cars/one%20car.png").json()["annotation"])[0], 60, 2)
        reply = ask("/cars/one%20car.png", output_project_id=project)
        [image] = served.api.image.get_list(project_id=project)
        assert (image.name, image.id, image.labels_count) == ("one car.png", reply.json()["image_id"], 1)
        assert ask("/much").status_code == 413
        assert ask("/text").status_code == 400
        assert ask("/away").status_code == 400, "a redirect to where nobody may go"
        assert ask("/nothing").status_code in (400, 502)
        other = f"http://localhost:{site.host.partition(':')[2]}/cars/one%20car.png"
        assert client.post("inference_image_url", {}, {"image_url": other}).status_code == 400


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a.png", "https://169.254.169.254/latest", "file:///etc/passwd", "ftp://a/b"]
)
def test_addresses_inside_the_network_are_refused(app: Client, url: str) -> None:
    reply = app.post("inference_image_url", {}, {"image_url": url})
    assert reply.status_code in (400, 502) and reply.json()["message"]
