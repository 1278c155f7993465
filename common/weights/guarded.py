"""Connections to addresses that strangers name: every machine is looked up once and reached as it was looked up, so that a
name cannot lead elsewhere between the check and the visit; and no wait outlasts a deadline, however little comes at a time."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from common.tls import trusted

Lookup = Callable[[str, int], Sequence[str]]
"""The addresses (numbers) at which a host's port may be visited; raises where it may not."""
Left = Callable[[], float | None]
"""Seconds until a wait must end, None = any; raises once nobody waits any more."""


class GuardedTransport(httpx.BaseTransport):
    """For `httpx.Client`. What lookup and left raise reaches the caller. Proxies are not used."""

    def __init__(self, lookup: Lookup, left: Left) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=trusted(), network_backend=_Network(lookup, left))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = request.url
        wanted = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _errors_of_httpx():
            reply = self._pool.handle_request(wanted)
        assert isinstance(reply.stream, Iterable)
        return httpx.Response(
            reply.status, headers=reply.headers, stream=_Body(reply.stream), extensions=reply.extensions
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        with _errors_of_httpx():
            yield from self._pieces

    def close(self) -> None:
        if hasattr(self._pieces, "close"):
            self._pieces.close()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise httpx.TransportError(str(error) or type(error).__name__) from error


class _Network(httpcore.NetworkBackend):
    def __init__(self, lookup: Lookup, left: Left) -> None:
        self._lookup, self._left, self._inner = lookup, left, httpcore.SyncBackend()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        failure: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for address in self._lookup(host, port):
            try:
                return _Stream(
                    self._inner.connect_tcp(
                        address, port, _sooner(timeout, self._left()), local_address, socket_options
                    ),
                    self._left,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, left: Left) -> None:
        self._inner, self._left = inner, left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _sooner(timeout, self._left()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _sooner(timeout, self._left()))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _sooner(timeout, self._left())), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _sooner(timeout: float | None, left: float | None) -> float | None:
    return min((seconds for seconds in (timeout, left) if seconds is not None), default=None)
