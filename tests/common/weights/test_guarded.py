"""Visits go where the name was looked up to lead, or nowhere."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from common.errors import WeightsInvalid
from common.weights.guarded import GuardedTransport
from common.weights.transfer import Rules, fetch
from tests.common.weights.web import Site, serving


def test_the_address_that_was_looked_up_is_the_one_visited() -> None:
    with serving(Site(b"here")) as site:
        port = int(site.host.rpartition(":")[2])
        asked: list[tuple[str, int]] = []

        def lookup(host: str, at: int) -> list[str]:
            asked.append((host, at))
            return ["127.0.0.1"]

        with httpx.Client(transport=GuardedTransport(lookup, lambda: None)) as client:
            assert client.get(f"http://nowhere.invalid:{port}/file").content == b"here"
        assert asked == [("nowhere.invalid", port)]
        assert site.asked[0][1]["host"] == f"nowhere.invalid:{port}"


def test_a_name_that_leads_inside_is_not_visited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Site(b"secret")) as site:
        port = int(site.host.rpartition(":")[2])
        inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)
        with pytest.raises(WeightsInvalid, match=r"private machine \(127\.0\.0\.1\)"):
            fetch(f"https://rebound.example:{port}/file", tmp_path / "part", Rules())
        assert site.asked == []
