"""One file from a publisher to disk: https only, resumed where it broke."""

from __future__ import annotations

import ipaddress
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.request import getproxies

import httpx

from common.errors import Interrupted, OutputUnusable, WeightsInvalid, WeightsMissing
from common.tls import trusted
from common.weights.guarded import GuardedTransport, Left

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Told bytes done, bytes in all (None while unknown), every piece; bytes done fall where a transfer begins anew."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

WEIGHTS = "weights"


@dataclass(frozen=True)
class Rules:
    """How addresses are treated. trusted_hosts: "host:port" that may be reached by plain http and at a private address, as
    the owner of this program set it up. headers: sent to the first host only, never after a redirect to another. waits_s:
    pauses between attempts that brought nothing; as many attempts as pauses, plus one. longest_s: for a whole file, all
    attempts together, however little comes at a time; None = no limit. what: is fetched, in messages.
    """

    trusted_hosts: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    waits_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    timeout_s: float = 30.0
    longest_s: float | None = None
    redirects: int = 8
    what: str = WEIGHTS


class _Broken(Exception):
    """This attempt ended early; another may go on."""


def fetch(
    url: str,
    part: Path,
    rules: Rules,
    size: int | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Fills `part` until it is the whole file; what an earlier attempt left there is not fetched again, provided
    the server says that it still has the same file. size: bytes, where published.

    Raises `WeightsMissing` when the file cannot be had (the same call goes on later), `WeightsInvalid` when the address
    gives something else or leads to a place that is not allowed, `Interrupted`, `OutputUnusable` when it cannot be kept.
    """
    tag = part.with_name(part.name + ".tag")
    stop = stop or threading.Event()
    failures = 0
    left = _clock(rules, part.stem, stop)
    with _client(rules, left) as client:
        while True:
            before = _length(part)
            try:
                _attempt(client, url, part, tag, rules, size, progress, left)
            except (_Broken, httpx.TransportError) as error:
                why = str(error) or type(error).__name__
                failures = 0 if _length(part) > before else failures + 1
                log.info("download of %s broke after %d bytes: %s", part.name, _length(part), why)
                if failures > len(rules.waits_s):
                    hint = " The same command goes on where this one stopped." if rules.what == WEIGHTS else ""
                    raise WeightsMissing(
                        f"{urlsplit(url).hostname} does not give the file {part.stem}: {why.rstrip('.')}.{hint}"
                    ) from error
                wait = rules.waits_s[failures - 1] if failures else 0.0
                if stop.wait(wait):
                    raise _ended() from error
            except OSError as error:
                raise OutputUnusable(f"{part} cannot be written: {error.strerror or error}.") from error
            else:
                tag.unlink(missing_ok=True)
                return


def _ended() -> Interrupted:
    return Interrupted("The download was ended; the same command continues it.")


def _clock(rules: Rules, name: str, stop: threading.Event) -> Left:
    end = None if rules.longest_s is None else time.monotonic() + rules.longest_s

    def left() -> float | None:
        if stop.is_set():
            raise _ended()
        remaining = None if end is None else end - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise WeightsMissing(f"The file {name} takes longer than {rules.longest_s:g} s to fetch.")
        return remaining

    return left


def _client(rules: Rules, left: Left) -> httpx.Client:
    """Behind a proxy, which looks names up and makes the connections, the clock is looked at between pieces only."""

    def lookup(host: str, port: int) -> list[str]:
        trusted = f"{host}:{port}" in rules.trusted_hosts or (port in (80, 443) and host in rules.trusted_hosts)
        found = _addresses(host, port)
        if not trusted:
            _refuse_private(host, found)
        return [str(address) for address in found]

    transport = None if _proxied() else GuardedTransport(lookup, left)
    return httpx.Client(timeout=rules.timeout_s, follow_redirects=False, transport=transport, verify=trusted())


def _attempt(
    client: httpx.Client,
    url: str,
    part: Path,
    tag: Path,
    rules: Rules,
    size: int | None,
    progress: Progress | None,
    left: Left,
) -> None:
    have, validator = _length(part), _read_tag(tag, url)
    if have and not validator:
        have = 0  # nothing says that these bytes belong to the file that is there now
    headers = {"accept-encoding": "identity"}
    if have:
        headers |= {"range": f"bytes={have}-", "if-range": validator}
    with _open(client, url, headers, rules) as reply:
        if reply.status_code == 416 and have:
            if have == _total_of(reply):  # only the goodbye of the last attempt was lost
                return
            part.unlink()
            raise _Broken("the part kept here is longer than the file")
        _refuse_status(reply, part.stem, rules)
        start, total = _extent(reply, have)
        _refuse_content(reply, part.stem, size, total)
        if total is not None and total - start > shutil.disk_usage(part.parent).free:
            raise OutputUnusable(f"{part.stem} needs {(total - start) >> 20} MiB in {part.parent}; there is less room.")
        if start == 0:
            _write_tag(tag, url, reply)
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            done = start
            if progress:
                progress(done, total)
            for piece in reply.iter_raw():
                file.write(piece)
                done += len(piece)
                if total is not None and done > total:
                    raise WeightsInvalid(f"The server sent more of {part.stem} than it had announced.")
                if progress:
                    progress(done, total)
                left()
    if done < (total or size or 0):
        raise _Broken(f"the connection ended after {done} of {total or size} bytes")


def _open(client: httpx.Client, url: str, headers: dict[str, str], rules: Rules) -> Any:
    """The reply at the end of the redirects, as a context manager; every address on the way is checked."""
    first = _parted(url).netloc
    for _ in range(rules.redirects + 1):
        _check_address(url, rules)
        extra = dict(rules.headers) if urlsplit(url).netloc == first else {}
        stream = client.stream("GET", url, headers=headers | extra)
        reply = stream.__enter__()
        if reply.status_code not in (301, 302, 303, 307, 308) or "location" not in reply.headers:
            return _closing(stream, reply)
        stream.__exit__(None, None, None)
        url = _joined(url, reply.headers["location"])
    raise WeightsInvalid(f"{first} sends from one address to the next without end.")


class _closing:  # noqa: N801
    def __init__(self, stream: Any, reply: httpx.Response) -> None:
        self._stream, self._reply = stream, reply

    def __enter__(self) -> httpx.Response:
        return self._reply

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)


def _parted(url: str) -> SplitResult:
    """Raises `WeightsInvalid` unless every part of it can be read, as the web client and the resolver of names do later."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        httpx.URL(url)
        if parts.hostname:
            parts.hostname.encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise WeightsInvalid("That is no address that can be visited.") from error
    return parts


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise WeightsInvalid("The address leads on to one that cannot be visited.") from error


def _check_address(url: str, rules: Rules) -> None:
    """Raises `WeightsInvalid` unless it is https to a machine on the public network."""
    parts = _parted(url)
    if parts.netloc in rules.trusted_hosts:
        return
    host = parts.hostname
    if parts.scheme != "https" or host is None or parts.username is not None:
        raise WeightsInvalid(f"The address leads to {parts.scheme}://{host}; {rules.what} are fetched over https only.")
    with suppress(ValueError):
        _refuse_private(host, [ipaddress.ip_address(host)])


def _refuse_private(host: str, addresses: Iterable[Address]) -> None:
    for address in addresses:
        if not address.is_global:
            raise WeightsInvalid(f"The address leads to {host}, a private machine ({address}); it is not visited.")


def _proxied() -> bool:
    return "https" in getproxies()


def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _Broken(f"the name {host} is not known here ({error})") from error
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _refuse_status(reply: httpx.Response, name: str, rules: Rules) -> None:
    status = reply.status_code
    if status in (200, 206):
        return
    if status in (401, 403):
        hint = ": accept its terms there, then set HF_TOKEN" if rules.what == WEIGHTS else ""
        raise WeightsMissing(f"{reply.url.host} gives {name} to known accounts only (HTTP {status}){hint}.")
    if status == 429 or status >= 500:
        raise _Broken(f"the server answers HTTP {status}")
    raise WeightsMissing(f"{reply.url.host} has no {name} at that address any more (HTTP {status}).")


def _refuse_content(reply: httpx.Response, name: str, size: int | None, total: int | None) -> None:
    if reply.headers.get("content-type", "").startswith("text/html"):
        raise WeightsInvalid(f"{reply.url.host} gave a web page in place of {name}; download it by hand.")
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise WeightsInvalid(f"{reply.url.host} gave {name} in an encoding that was not asked for.")
    if size is not None and total is not None and size != total:
        raise WeightsInvalid(f"{reply.url.host} has a {name} of {total} bytes; {size} are published.")


def _extent(reply: httpx.Response, have: int) -> tuple[int, int | None]:
    """Where the reply's bytes begin in the file, and the file's length."""
    if reply.status_code == 206:
        unit, _, rest = reply.headers.get("content-range", "").partition(" ")
        first = rest.partition("-")[0]
        if unit != "bytes" or first != str(have):
            raise _Broken("the server sent another part of the file than was asked for")
        return have, _total_of(reply)
    length = reply.headers.get("content-length", "")
    return 0, int(length) if length.isdigit() else None


def _total_of(reply: httpx.Response) -> int | None:
    total = reply.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _read_tag(tag: Path, url: str) -> str:
    try:
        kept = json.loads(tag.read_text())
    except (OSError, ValueError):
        return ""
    return str(kept["validator"]) if isinstance(kept, dict) and kept.get("url") == url and "validator" in kept else ""


def _write_tag(tag: Path, url: str, reply: httpx.Response) -> None:
    """What names this state of the file: a strong ETag, else its date."""
    etag = reply.headers.get("etag", "")
    validator = etag if etag and not etag.startswith("W/") else reply.headers.get("last-modified", "")
    tag.write_text(json.dumps({"url": url, "validator": validator}))
