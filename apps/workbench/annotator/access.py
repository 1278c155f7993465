"""How the page gets in without the token being in any address, page or script: a cookie that only the server can make.

The cookie is a keyed digest of the token, so it is valid as long as the token is, also after a restart. Scripts cannot read
it (HttpOnly) and other sites' requests do not carry it (SameSite=Strict). A browser calls all ports of 127.0.0.1 one site,
so a request with the cookie must besides come from this very origin, and one that changes anything must carry a header
that no other origin can send unasked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.types import Scope

from apps.workbench.security import same

PAGE_HEADER = b"x-workbench-page"
_SAFE = {"GET", "HEAD"}

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def cookie_name(port: int) -> str:
    """Ports share cookies; each workbench has one of its own."""
    return f"workbench-{port}"


def cookie_value(token: str) -> str:
    return hmac.new(token.encode(), b"workbench page 1", hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("evil.example")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local(scope: Scope) -> bool:
    """Whether the request was made on this machine, under a name of this machine.

    The name counts too: a page of another site, whose name was made to point here, sends its own.
    """
    client = scope.get("client")
    host = urlsplit("//" + _headers(scope).get(b"host", b"").decode("latin-1")).hostname
    return client is not None and is_loopback(client[0]) and host is not None and is_loopback(host)


def from_page(scope: Scope, token: str, port: int) -> bool:
    """Whether the request comes from the annotator page of a browser that was let in."""
    headers = _headers(scope)
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return False
    given = cookies.get(cookie_name(port))
    if given is None or not same(given.value, cookie_value(token)):
        return False
    if headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
        return False
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc != headers.get(b"host", b"").decode("latin-1"):
        return False
    return scope["method"] in _SAFE or PAGE_HEADER in headers


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    return dict(scope["headers"])
