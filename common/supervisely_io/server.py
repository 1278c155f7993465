"""Calls of a Supervisely server's REST methods: one connection pool, bounded patience, typed errors, no leaks of tokens."""

from __future__ import annotations

import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from common.errors import Interrupted, ServerRefused, ServerUnreachable, UserError
from common.supervisely_io.retry import ONCE, Retry, retry_after, transient
from common.tls import trusted

Json = Any
"""A JSON value as `json.loads` gives it."""

_PATH = "/public/api/v3/"
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
_MESSAGE_LENGTH = 500


@dataclass(frozen=True)
class Timeouts:
    """Seconds that one attempt may wait for a connection, and for the next bytes of a reply."""

    connect_s: float = 5.0
    read_s: float = 30.0


@dataclass(frozen=True)
class Reply:
    """A reply of status 200 or 206, read to its end."""

    content: bytes
    headers: Mapping[str, str]


class Streamed(ABC):
    """A body that is read piece by piece, from its beginning for each attempt."""

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]: ...


class Server:
    """One server as one caller sees it. Safe to use from several threads; `close` it, or use it as a context manager.

    address: "http(s)://host[:port]". token: goes into the `x-api-key` header and nowhere else: not into errors, logs or
    repr. session_id: the annotation tool's session, sent as `x-toolbox-session-id` when given. headers: sent with every
    call. retry, timeouts: for calls that bring none of their own. stop: once set, waits end with `Interrupted`.
    transport: for tests. Raises `UserError` for an address that cannot be used. Redirects are not followed: they would
    carry the token to another host.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        session_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: Retry | None = None,
        timeouts: Timeouts | None = None,
        stop: threading.Event | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.address = _checked(address, token)
        self._token = token
        self._headers = {**(headers or {}), "x-api-key": token, "accept-encoding": "identity"}
        if session_id is not None:
            self._headers["x-toolbox-session-id"] = str(session_id)
        self.retry = retry or Retry()
        self._timeouts = timeouts or Timeouts()
        self.stop = stop or threading.Event()
        self._chance = random.Random()
        self._owner = True
        self._client = httpx.Client(
            base_url=self.address + _PATH,
            # Servers drop idle connections after 5 s or more; ours are dropped first, so that none breaks at its next use.
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=3.0),
            follow_redirects=False,
            transport=transport,
            verify=trusted(),
        )

    def __repr__(self) -> str:
        return f"Server({self.address!r})"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections. A view made by `to` leaves them to the server that it was made from."""
        if self._owner:
            self._client.close()

    def to(
        self,
        *,
        session_id: str | None = None,
        retry: Retry | None = None,
        stop: threading.Event | None = None,
    ) -> Server:
        """The same server and connections with other manners: a session, more or less patience, another stop event."""
        other = object.__new__(Server)
        other.__dict__.update(self.__dict__)
        other._owner = False
        other._headers = dict(self._headers)
        if session_id is not None:
            other._headers["x-toolbox-session-id"] = str(session_id)
        other.retry = retry or self.retry
        other.stop = stop or self.stop
        return other

    def call(
        self, method: str, payload: Json | bytes = None, *, repeat: bool = True, retry: Retry | None = None
    ) -> Json:
        """The reply's JSON value.

        method: such as "videos.info". payload: a JSON value, or bytes that are JSON text already; None sends {}.
        repeat: False for methods that must not be done twice: after a failure in which the server may have acted, it
        raises `ServerUnreachable` with `uncertain` set and leaves it to the caller to look.
        Raises `ServerRefused` (4xx but 408, 425, 429, 499), `ServerUnreachable` (after `retry.total_s`), `Interrupted`.
        """
        content = self.fetch(method, payload, repeat=repeat, retry=retry).content
        try:
            return json.loads(content) if content else None
        except ValueError as error:
            raise ServerUnreachable(
                f"{self.address} answered {method} with something that is not JSON. Is it a Supervisely server?", True
            ) from error

    def fetch(
        self,
        method: str,
        payload: Json | bytes | Streamed = None,
        *,
        repeat: bool = True,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Like `call`, for replies that are not JSON (frames), and for bodies that are large files."""
        body = self._body(payload, method)
        patience = retry or self.retry
        end = time.monotonic() + patience.total_s
        failures = 0
        while True:
            if self.stop.is_set():
                raise self._interrupted(method)
            left = None if patience.total_s <= 0 else max(0.1, end - time.monotonic())
            try:
                with self._open(method, body, headers, left) as response:
                    return Reply(response.read(), dict(response.headers))
            except _Failed as failed:
                failures += 1
                wait = patience.wait(failures, self._chance, failed.asked_s)
                if (failed.uncertain and not repeat) or time.monotonic() + wait >= end:
                    raise ServerUnreachable(failed.message, failed.uncertain, failed.asked_s) from failed.__cause__
            if self.stop.wait(wait):
                raise self._interrupted(method)

    @contextmanager
    def stream(
        self, method: str, payload: Json = None, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """One attempt whose reply (200 or 206) is read piece by piece. Raises as `call` does, while reading too."""
        try:
            with self._open(method, self._body(payload, method), headers, None) as response:
                yield response
        except _Failed as failed:
            raise ServerUnreachable(failed.message, failed.uncertain, failed.asked_s) from failed.__cause__

    @contextmanager
    def _open(
        self, method: str, body: bytes | Streamed, headers: Mapping[str, str] | None, left_s: float | None
    ) -> Iterator[httpx.Response]:
        """One attempt. Raises `_Failed` for what may pass and `ServerRefused` for what will not."""
        connect, read = self._timeouts.connect_s, self._timeouts.read_s
        if left_s is not None:
            connect, read = min(connect, left_s), min(read, left_s)
        timeout = httpx.Timeout(read, connect=connect, pool=read)
        sent = {**self._headers, "content-type": "application/json", **(headers or {})}
        try:
            with self._client.stream("POST", method, content=body, headers=sent, timeout=timeout) as response:
                if response.status_code not in (200, 206):
                    self._refuse(method, response)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            uncertain = not isinstance(error, _NEVER_SENT)
            reason = self._clean(str(error) or type(error).__name__)
            raise _Failed(
                f"The server {self.address} gave no answer to {method} ({reason}). "
                "Check that it runs and that this machine can reach it.",
                uncertain,
            ) from error

    def _refuse(self, method: str, response: httpx.Response) -> None:
        response.read()
        status = response.status_code
        said = self._clean(_said(response))
        if transient(status):
            asked = retry_after(response.headers)
            raise _Failed(f"The server {self.address} failed in {method} ({status}): {said}", True, asked)
        if status in (401, 403):
            said += " Check the API token and what its user may do."
        raise ServerRefused(f"The server refused {method} ({status}): {said}", status, method)

    def _body(self, payload: Json | bytes | Streamed, method: str) -> bytes | Streamed:
        if isinstance(payload, bytes | Streamed):
            return payload
        try:
            return json.dumps({} if payload is None else payload, separators=(",", ":"), allow_nan=False).encode()
        except ValueError as error:
            raise ServerRefused(
                f"A request for {method} holds NaN or Infinity; JSON has no number for it.", 0
            ) from error

    def _clean(self, text: str) -> str:
        return text.replace(self._token, "***")[:_MESSAGE_LENGTH] if self._token else text[:_MESSAGE_LENGTH]

    def _interrupted(self, method: str) -> Interrupted:
        return Interrupted(f"Stopped before {method} was answered.")


class _Failed(Exception):
    """One attempt failed in a way that the next may not."""

    def __init__(self, message: str, uncertain: bool, asked_s: float | None = None) -> None:
        super().__init__(message)
        self.message, self.uncertain, self.asked_s = message, uncertain, asked_s


def _checked(address: str, token: str) -> str:
    """The address without a slash at its end."""
    try:
        url = httpx.URL(address.strip())
    except httpx.InvalidURL as error:
        raise UserError("The server address is not a URL. Write it as https://app.supervisely.com.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"The server address must start with http:// or https://, not {url.scheme or 'nothing'!r}.")
    if url.userinfo or url.query or url.fragment:
        raise UserError("The server address must be just scheme, host and port; the token goes separately.")
    if not token or not token.isascii() or not token.isprintable():
        raise UserError("The API token is missing or damaged. Copy it again from your account settings.")
    return str(url).rstrip("/")


def _said(response: httpx.Response) -> str:
    """What a reply says is wrong, in one line. The platform answers {"error", "details": {"message"}}."""
    try:
        data = json.loads(response.content)
    except ValueError:
        return response.reason_phrase or "no explanation"
    found: object = None
    if isinstance(data, dict):
        details = data.get("details")
        found = (
            (details.get("message") if isinstance(details, dict) else None) or data.get("message") or data.get("error")
        )
    return " ".join(str(found).split()) if found else response.reason_phrase or "no explanation"


__all__ = ["ONCE", "Json", "Reply", "Retry", "Server", "Timeouts"]
