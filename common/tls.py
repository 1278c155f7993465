"""Whom this process trusts when it speaks https."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trusted() -> ssl.SSLContext:
    """For all clients of the process: reading the certificates takes some 30 ms, and every client would read them again.

    They are those that the environment names (SSL_CERT_FILE, SSL_CERT_DIR), else those of `certifi`.
    """
    return httpx.create_ssl_context()
