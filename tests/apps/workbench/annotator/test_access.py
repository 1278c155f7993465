"""Which browsers and which requests are let in without the token."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from apps.workbench.annotator.access import cookie_value, from_page, is_local
from tests.apps.workbench.annotator.browser import ROOT
from tests.apps.workbench.harness import Served

STATIC = ROOT / "apps/workbench/annotator/static"


@pytest.fixture
def let_in(served: Served) -> requests.Session:
    session = requests.Session()
    reply = session.get(served.settings.address + "/", timeout=10)
    assert reply.status_code == 200
    return session


def test_the_cookie_is_for_this_origin_only_and_scripts_cannot_read_it(
    served: Served, let_in: requests.Session
) -> None:
    reply = requests.get(served.settings.address + "/", timeout=10)
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert served.bench.token not in reply.text + str(reply.headers)
    assert "script-src 'self'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("verb", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"sec-fetch-site": "same-origin"}, 200),
        ("GET", {"sec-fetch-site": "same-site"}, 401),
        ("GET", {"sec-fetch-site": "cross-site"}, 401),
        ("POST", {}, 401),
        ("POST", {"x-workbench-page": "1"}, 200),
        ("POST", {"x-workbench-page": "1", "origin": "http://127.0.0.1:1"}, 401),
        ("POST", {"x-workbench-page": "1", "origin": "null"}, 401),
    ],
)
def test_the_cookie_counts_only_in_requests_of_the_page(
    served: Served, let_in: requests.Session, verb: str, headers: dict[str, str], status: int
) -> None:
    path = "/workbench/annotator/videos" if verb == "GET" else "/public/api/v3/users.me"
    reply = let_in.request(verb, served.settings.address + path, headers=headers, json={}, timeout=10)
    assert reply.status_code == status


def test_a_name_that_only_points_here_gets_no_cookie(served: Served) -> None:
    reply = requests.get(served.settings.address + "/", headers={"host": "evil.example"}, timeout=10)
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers


def test_the_token_opens_the_page_from_elsewhere(served: Served) -> None:
    address = served.settings.address + "/login"
    refused = requests.post(address, data={"token": "no"}, headers={"host": "far.example"}, timeout=10)
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
    taken = requests.post(
        address, data={"token": served.bench.token}, headers={"host": "far.example"}, timeout=10, allow_redirects=False
    )
    assert (taken.status_code, "set-cookie" in taken.headers) == (303, True)


def test_a_wrong_cookie_or_another_address_is_not_let_in() -> None:
    def scope(cookie: str, client: str = "127.0.0.1", host: str = "127.0.0.1:8000") -> dict[str, object]:
        headers = [(b"cookie", cookie.encode()), (b"host", host.encode())]
        return {"type": "http", "method": "GET", "headers": headers, "client": (client, 1)}

    good = f"workbench-8000={cookie_value('token')}"
    assert from_page(scope(good), "token", 8000)
    assert not from_page(scope(good), "token", 8001)
    assert not from_page(scope(good), "other", 8000)
    assert not from_page(scope("workbench-8000=1"), "token", 8000)
    assert is_local(scope(""))
    assert not is_local(scope("", client="192.168.0.7"))
    assert not is_local(scope("", host="rebound.example"))


def test_nothing_of_the_page_comes_from_elsewhere() -> None:
    for path in STATIC.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name


def test_static_files_are_the_only_ones(served: Served) -> None:
    for name in ("../routes.py", "%2e%2e/routes.py", "..%2froutes.py", "/etc/passwd"):
        reply = requests.get(f"{served.settings.address}/annotator/static/{name}", timeout=10)
        assert reply.status_code in (401, 404)
    assert (
        Path(STATIC / "main.js").read_bytes()
        == requests.get(f"{served.settings.address}/annotator/static/main.js", timeout=10).content
    )
