"""Calls come through what passes, stop at what does not, and never show the token."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime

import httpx
import pytest

from common.errors import Interrupted, ServerRefused, ServerUnreachable, UserError
from common.supervisely_io.retry import Retry, retry_after, transient
from common.supervisely_io.server import Server, Timeouts
from tests.apps.workbench.harness import Served, free_port
from tests.common.supervisely_io.conftest import Arm, Wire

TOKEN = "s3cret-token-of-a-person"


@pytest.mark.parametrize("status", [408, 429, 499, 500, 502, 503, 504])
def test_what_passes_is_borne(server: Server, arm: Arm, wire: Wire, status: int) -> None:
    arm("users.me", status=status, count=2)
    assert server.call("users.me")["login"] == "admin"
    assert wire.calls == {"users.me": 3}


@pytest.mark.parametrize("when", ["before", "after"])
def test_broken_connections_are_borne(server: Server, arm: Arm, when: str) -> None:
    arm("users.me", disconnect=True, count=2, when=when)
    assert server.call("users.me")["login"] == "admin"


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_what_is_refused_is_asked_once(server: Server, arm: Arm, wire: Wire, status: int) -> None:
    arm("users.me", status=status)
    with pytest.raises(ServerRefused, match=f"A test asked for status {status}") as caught:
        server.call("users.me")
    assert (caught.value.status, caught.value.method, wire.calls) == (status, "users.me", {"users.me": 1})


def test_slow_answers_are_asked_for_again(served: Served, arm: Arm) -> None:
    arm("users.me", delay_s=1.0)
    with Server(served.settings.address, served.bench.token, timeouts=Timeouts(read_s=0.2)) as server:
        assert server.call("users.me")["login"] == "admin"


@pytest.mark.parametrize("fault", [{"status": 500}, {"disconnect": True}, {"status": 503, "when": "after"}])
def test_no_repeat_says_that_it_is_uncertain(server: Server, arm: Arm, wire: Wire, fault: dict[str, object]) -> None:
    arm("users.me", **fault)
    with pytest.raises(ServerUnreachable) as caught:
        server.call("users.me", repeat=False)
    assert caught.value.uncertain
    assert wire.calls == {"users.me": 1}


def test_nobody_there_is_certain_and_bounded() -> None:
    with Server(f"http://127.0.0.1:{free_port()}", TOKEN, retry=Retry(total_s=0.5, first_s=0.05)) as server:
        start = time.monotonic()
        with pytest.raises(ServerUnreachable) as caught:
            server.call("users.me", repeat=False)
        assert time.monotonic() - start < 2
    assert not caught.value.uncertain


def test_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    patient = Retry(total_s=60, first_s=30, longest_s=30)
    with Server(f"http://127.0.0.1:{free_port()}", TOKEN, retry=patient, stop=stop) as server:
        threading.Timer(0.1, stop.set).start()
        start = time.monotonic()
        with pytest.raises(Interrupted):
            server.call("users.me")
    assert time.monotonic() - start < 5


def test_the_token_stays_secret(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"message": f"token {request.headers['x-api-key']} is not yours"})

    caplog.set_level(0)
    shown = []
    for server in (
        Server("http://example.org", TOKEN, transport=httpx.MockTransport(echo)),
        Server(served.settings.address, TOKEN),
        Server(f"http://127.0.0.1:{free_port()}", TOKEN, retry=Retry(total_s=0.1)),
    ):
        with pytest.raises((ServerRefused, ServerUnreachable)) as caught:
            server.call("users.me")
        shown += [repr(server), str(server), str(caught.value), repr(caught.value.__cause__)]
        server.close()
    assert TOKEN not in "".join(shown) + caplog.text


@pytest.mark.parametrize(
    ("address", "token"),
    [
        ("ftp://example.org", TOKEN),
        ("file:///etc/passwd", TOKEN),
        ("example.org", TOKEN),
        ("", TOKEN),
        ("http://", TOKEN),
        (f"http://user:{TOKEN}@example.org", TOKEN),
        ("https://example.org?a=1", TOKEN),
        ("https://example.org", ""),
        ("https://example.org", "two\nlines"),
    ],
)
def test_bad_addresses_and_tokens_are_refused(address: str, token: str) -> None:
    with pytest.raises(UserError) as caught:
        Server(address, token)
    assert TOKEN not in str(caught.value)


def test_headers_and_views() -> None:
    seen: list[httpx.Headers] = []

    def keep(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={})

    server = Server("http://h/", TOKEN, headers={"x-extra": "1"}, transport=httpx.MockTransport(keep))
    view = server.to(session_id="sess-1")
    view.call("users.me")
    view.close()
    server.call("users.me")  # a view's end is not the server's
    assert [h.get("x-toolbox-session-id") for h in seen] == ["sess-1", None]
    assert {(h["x-api-key"], h["x-extra"], h["content-type"]) for h in seen} == {(TOKEN, "1", "application/json")}


def test_redirects_do_not_carry_the_token_away() -> None:
    hosts: list[str] = []

    def away(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(302, headers={"location": "http://elsewhere.example/"})

    with pytest.raises(ServerRefused):
        Server("http://here.example", TOKEN, transport=httpx.MockTransport(away)).call("users.me")
    assert hosts == ["here.example"]


def test_nan_is_not_sent(server: Server, wire: Wire) -> None:
    with pytest.raises(ServerRefused, match="NaN"):
        server.call("users.me", {"a": float("nan")})
    assert wire.calls == {}


def test_retry_after_is_honoured() -> None:
    times: list[float] = []

    def busy(_: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        return httpx.Response(429, headers={"retry-after": "1"}) if len(times) == 1 else httpx.Response(200, json=7)

    with Server("http://h", TOKEN, retry=Retry(5, 0.01, 0.01), transport=httpx.MockTransport(busy)) as server:
        assert server.call("users.me") == 7
    assert 1.0 <= times[1] - times[0] < 2.0


def test_retry_after_beyond_the_patience_is_not_waited_for() -> None:
    far = httpx.MockTransport(lambda _: httpx.Response(503, headers={"retry-after": "600"}))
    start = time.monotonic()
    with pytest.raises(ServerUnreachable) as caught:
        Server("http://h", TOKEN, retry=Retry(5), transport=far).call("users.me")
    assert time.monotonic() - start < 1
    assert caught.value.retry_after_s == 600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("12", 12.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("", None),
        ("-3", None),
        ("later", None),
    ],
)
def test_retry_after_forms(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, datetime(2026, 11, 22, 10, tzinfo=UTC)) == seconds


def test_waits_grow_and_are_bounded() -> None:
    retry, chance = Retry(first_s=0.5, longest_s=4.0), random.Random(0)
    waits = [[retry.wait(n, chance) for _ in range(50)] for n in (1, 2, 3, 4, 50)]
    for found, base in zip(waits, (0.5, 1.0, 2.0, 4.0, 4.0), strict=True):
        assert base / 2 <= min(found) < max(found) <= base
    assert retry.wait(1, chance, asked_s=9.0) == 9.0
    assert not transient(404)
