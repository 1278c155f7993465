"""Whom this process trusts when it speaks https."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """For all clients of the process: reading the certificates takes some 50 ms, and every client would read them again.

    They are those that the environment names (SSL_CERT_FILE, SSL_CERT_DIR), else those of `certifi`; new ones count from the
    next start on.
    """
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    # Clients say the same again before each connection; another thread may just be opening its own from the same memory.
    context.set_alpn_protocols = _nothing_new  # type: ignore[assignment, method-assign]
    return context


def _nothing_new(protocols: Iterable[str]) -> None:
    assert list(protocols) == ["http/1.1"], "all clients of the process speak the same protocol"
