"""Which servers a request may make this app talk to, and with whose token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from common.serving.replies import Rejected

_PORTS = {"http": 80, "https": 443}


def normalised(address: str) -> str:
    """One form for all ways to write a server's address. Raises `Rejected` when it is none.

    >>> normalised("HTTPS://Example.com:443/"), normalised("localhost:8000")
    ('https://example.com', 'http://localhost:8000')
    """
    text = address.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in _PORTS or parts.username is not None or parts.query or parts.fragment:
        raise Rejected("The server address must be a plain http(s)://host[:port].")
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{shown}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}") + path


def same_secret(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how much of them agrees."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class Caller:
    """On whose behalf a request is carried out. token: in no repr and no message."""

    address: str
    token: str = field(repr=False)

    @property
    def fingerprint(self) -> bytes:
        """Names the caller without holding the token: what is kept between requests is kept under it."""
        return hashlib.sha256(f"{self.address}\0{self.token}".encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True)
class Access:
    """The servers that are allowed.

    address, token: the server this app belongs to, and the token it was started with; "" when it belongs to none.
    allowed: more servers, normalised; a request that names one must bring a token of its own.
    """

    address: str = ""
    token: str = field(default="", repr=False)
    allowed: frozenset[str] = frozenset()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Access:
        """SERVER_ADDRESS, API_TOKEN, and ALLOWED_SERVER_ADDRESSES (separated by commas)."""
        more = [entry for entry in env.get("ALLOWED_SERVER_ADDRESSES", "").split(",") if entry.strip()]
        address = env.get("SERVER_ADDRESS", "")
        return cls(
            normalised(address) if address.strip() else "",
            env.get("API_TOKEN", "").strip(),
            frozenset(map(normalised, more)),
        )

    def caller(self, address: str | None, token: str | None) -> Caller:
        """Who asks. address, token: as the request has them, None or "" when it has none.

        Raises `Rejected` (403) for a server that is not allowed: otherwise anybody who reaches this app could make it send
        requests anywhere; 401 without a token. The app's own token goes to its own server only.
        """
        asked = normalised(address) if address else self.address
        if not asked:
            raise Rejected("This app belongs to no server. Start it with SERVER_ADDRESS and API_TOKEN.", 403)
        if asked != self.address and asked not in self.allowed:
            raise Rejected(
                "The request's server_address is not the server of this app. To permit it, add it to the app's "
                "environment variable ALLOWED_SERVER_ADDRESSES.",
                403,
            )
        if token:
            return Caller(asked, token)
        if asked == self.address and self.token:
            return Caller(asked, self.token)
        raise Rejected("The request has no api_token.", 401)
