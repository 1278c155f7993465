"""Whom the app talks to, what it tells and what it takes."""

from __future__ import annotations

import http.server
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from common.serving.access import Access, Caller, normalised, same_secret
from common.serving.replies import Rejected
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import AppRunning, Client, Stage, data, new_track


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.com:443/", "https://app.example.com"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_one_form_for_an_address(written: str, meant: str) -> None:
    assert normalised(written) == meant


@pytest.mark.parametrize(
    "written",
    ["ftp://a", "http://", "file:///etc/passwd", "http://u:p@h", "http://h?x=1", "http://h:99999", "http://h#f"],
)
def test_no_address(written: str) -> None:
    with pytest.raises(Rejected):
        normalised(written)


JSON = {"content-type": "application/json"}
ACCESS = Access.from_env(
    {"SERVER_ADDRESS": "https://own.example/", "API_TOKEN": "own", "ALLOWED_SERVER_ADDRESSES": "http://friend:8000, "}
)


@pytest.mark.parametrize(
    ("address", "token", "result"),
    [
        (None, None, Caller("https://own.example", "own")),
        ("", "", Caller("https://own.example", "own")),
        ("https://own.example:443", "theirs", Caller("https://own.example", "theirs")),
        ("http://friend:8000/", "theirs", Caller("http://friend:8000", "theirs")),
        ("http://friend:8000", None, 401),
        ("http://own.example", "theirs", 403),
        ("https://own.example.evil", "theirs", 403),
        ("http://169.254.169.254", "theirs", 403),
    ],
)
def test_callers(address: str | None, token: str | None, result: Caller | int) -> None:
    if isinstance(result, int):
        with pytest.raises(Rejected) as caught:
            ACCESS.caller(address, token)
        assert caught.value.status == result
    else:
        assert ACCESS.caller(address, token) == result


def test_without_a_server_there_is_no_caller() -> None:
    with pytest.raises(Rejected):
        Access().caller(None, "token")


def test_secrets() -> None:
    assert same_secret("abc", "abc") and not same_secret("abd", "abc") and not same_secret("", "abc")
    assert not same_secret("ä", "a")
    caller = Caller("http://h", "secret-token")
    assert "secret-token" not in repr(caller) + repr(ACCESS) + repr(caller.fingerprint)
    assert caller.fingerprint != Caller("http://h", "other").fingerprint


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """A server that no app may talk to; it notes who comes."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_foreign_server_is_never_asked(client: Client, stage: Stage, stranger: tuple[str, list[str]]) -> None:
    address, seen = stranger
    figure = {"objectId": 1, "geometryType": "rectangle", "geometry": data("rectangle")}
    base = {"videoId": stage.video.id, "frameIndex": 0, "frames": 2}
    column = {"type": "rectangle", "data": data("rectangle")}
    click = {
        "crop": [{"x": 0, "y": 0}, {"x": 9, "y": 9}],
        "positive": [{"x": 4, "y": 4}],
        "negative": [],
        "image_id": 1,
    }
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("track", base | {"trackId": "t", "objectIds": [1], "figureIds": [1]}, {}),
        ("track", {"trackId": "t", "videoId": 1}, {}),
        ("track_async", base | {"trackId": "t", "figures": [figure]}, {}),
        ("track_stream", base | {"trackId": "t", "figures": [figure]}, {}),
        ("track-api", base | {"input_geometries": [column]}, {}),
        ("smart_cache", {}, {"video_id": stage.video.id}),
        ("smart_cache", {}, {"video_id": stage.video.id, "server_address": address, "api_token": "t"}),
        ("smart_segmentation", click, {}),
        ("jobs", {}, {}),
        ("models/choose", {}, {"name": "flow"}),
        ("models/download", {}, {"name": "xmem"}),
    ]
    for command, context, state in calls:
        reply = client.post(command, context, state, server_address=address, api_token="a-token")
        assert reply.status_code == 403, command
        assert "ALLOWED_SERVER_ADDRESSES" in reply.json()["message"]
    assert seen == []


@pytest.mark.parametrize("path", ["sly/session-info", "sly/state", "openapi.json", "docs", "sly/css/x", "nothing"])
def test_what_must_not_exist_does_not(client: Client, path: str) -> None:
    assert client.get(path).status_code in (404, 405)
    assert client.post(path).status_code in (404, 405)


def test_tokens_reach_no_log_and_no_reply(
    served: Served, stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with AppRunning(served, tmp_path) as client:
        replies = [
            client.track(stage, [stage.draw("rectangle")], new_track()),
            client.post("jobs"),
            client.post("get_session_info"),
            client.post("get_status"),
            client.post("track", {"apiToken": client.token}),
            client.post("track-api", {"videoId": client.token}),
            client.post("smart_cache", {}, {"video_id": client.token, "api_token": client.token}),
            client.post("sly/session-info"),
        ]
        wrong = "wrong-token-" + "x" * 30
        replies.append(
            client.post(
                "track-api",
                {
                    "videoId": 1,
                    "frameIndex": 0,
                    "frames": 1,
                    "input_geometries": [{"type": "point", "data": data("point")}],
                },
                api_token=wrong,
            )
        )
        assert replies[-1].status_code == 401
        for reply in replies:
            assert client.token not in reply.text and wrong not in reply.text
            assert client.token not in str(reply.headers)
    assert client.token not in caplog.text and wrong not in caplog.text


def test_only_the_owner_may_end_the_app(client: Client) -> None:
    for token in ("", "guess", client.token[:-1]):
        assert client.post("sly/shutdown", api_token=token).status_code == 403
    assert client.get("livez").status_code == 200


def test_bodies_and_uploads_are_bounded_while_they_stream(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, max_body_bytes=20_000, max_upload_bytes=50_000) as client:

        def pieces(count: int) -> Iterator[bytes]:
            for _ in range(count):
                yield b" " * 10_000

        for body in (b" " * 30_000, pieces(300)):
            reply = requests.post(f"{client.address}/track-api", data=body, headers=JSON, timeout=30)
            assert reply.status_code == 413 and reply.json()["message"]
        assert client.files("track-api-files", [b"x" * 60_000], "{}").status_code == 413
        assert client.files("smart_cache_files", [b"x" * 60_000], "{}").status_code == 413
        assert client.files("smart_cache_files", [b"x" * 1000], "{}").json() == {"message": "Cache task started."}
        assert client.get("livez").status_code == 200


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'"text"', b'{"context": [1]}', b'{"context": "x"}', b"[" * 100_000, b"\xff\xfe"]
)
def test_what_is_no_envelope(client: Client, body: bytes) -> None:
    reply = requests.post(f"{client.address}/track-api", data=body, headers=JSON, timeout=30)
    assert reply.status_code == 400 and reply.json()["message"]


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"]
)
def test_what_a_foreign_web_page_could_send_is_not_read(client: Client, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    reply = requests.post(f"{client.address}/track", data=b'{"context": {}}', headers=headers, timeout=30)
    assert reply.status_code == 415 and "access-control-allow-origin" not in reply.headers


def test_nothing_in_the_context_is_told_too(client: Client) -> None:
    body = {"context": None, "state": None, "server_address": client.server, "api_token": client.token}
    reply = requests.post(f"{client.address}/track", json=body, timeout=30)
    assert reply.status_code == 400 and "frameIndex" in reply.json()["message"]


def test_a_picture_that_announces_too_many_pixels_is_not_unpacked(client: Client) -> None:
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    settings = '{"input_geometries": [{"type": "point", "data": {"points": {"exterior": [[1, 1]], "interior": []}}}]}'
    reply = client.files("track-api-files", [header + bytes(4), io.BytesIO(header).read()], settings)
    assert reply.status_code in (400, 413)
