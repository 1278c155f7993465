"""A real workbench with faults on demand, spoken to as the apps will speak to any server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from common.supervisely_io.records import VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server, Timeouts
from common.supervisely_io.videos import video as video_by_id
from common.tls import trusted
from tests.apps.workbench.conftest import _sdk_speaks_plain_http, clip, labelled, served
from tests.apps.workbench.harness import Labelled, Served

__all__ = ["_sdk_speaks_plain_http", "clip", "labelled", "served"]

Arm = Callable[..., None]

QUICK = Retry(total_s=8.0, first_s=0.02, longest_s=0.2)


class Whole(httpx.SyncByteStream):
    """Bytes as a reply that is still to be read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data

    @classmethod
    def reply(cls, like: httpx.Response, data: bytes) -> httpx.Response:
        headers = {k: v for k, v in like.headers.items() if k.lower() != "content-length"}
        return httpx.Response(like.status_code, headers={**headers, "content-length": str(len(data))}, stream=cls(data))


class Wire(httpx.BaseTransport):
    """The real network, which counts calls by method and lets a test see or change requests and replies."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport(verify=trusted())
        self.calls: dict[str, int] = {}
        self.before: Callable[[str, httpx.Request], httpx.Request] = lambda _, request: request
        self.after: Callable[[str, httpx.Request], None] = lambda *_: None
        self.edit: Callable[[Any], Any] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        method = request.url.path.rsplit("/", 1)[-1]
        self.calls[method] = self.calls.get(method, 0) + 1
        response = self.inner.handle_request(self.before(method, request))
        self.after(method, request)
        if self.edit is not None:
            return Whole.reply(response, json.dumps(self.edit(json.loads(response.read()))).encode())
        return response

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def server(served: Served, wire: Wire) -> Iterator[Server]:
    with Server(
        served.settings.address,
        served.bench.token,
        retry=QUICK,
        timeouts=Timeouts(read_s=2.0),
        transport=wire,
    ) as it:
        yield it


@pytest.fixture
def arm(served: Served) -> Iterator[Arm]:
    def _arm(method: str, **rule: object) -> None:
        assert served.own("POST", "faults", json=[{"method": method, **rule}]).status_code == 200

    yield _arm
    served.own("DELETE", "faults")


@pytest.fixture
def record(server: Server, labelled: Labelled) -> VideoRecord:
    return video_by_id(server, labelled.video.id)


@pytest.fixture
def objects(served: Served, labelled: Labelled) -> list[int]:
    return [labelled.add_object(served) for _ in range(3)]
