"""A publisher's server for tests: ranges, redirects, and every way to fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """content: of /file. etag: "" = none. cut_after: the connection of a reply ends after so many bytes, one entry a
    reply. statuses: given in place of the file, one entry a request. asked: (path, headers) of every request.
    """

    content: bytes = b""
    etag: str = '"1"'
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    kind: str = "application/octet-stream"
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    hold: threading.Event | None = None
    address: str = ""

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://")

    @property
    def wanted_from(self) -> list[str]:
        return [headers.get("range", "") for _, headers in self.asked]


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            site.asked.append((self.path, headers))
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if site.statuses:
                self.send_response(site.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            wanted = headers.get("range", "")
            if wanted and site.ranges and headers.get("if-range", site.etag) == site.etag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(site.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(site.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            else:
                self.send_response(200)
            body = site.content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", site.kind)
            if site.etag:
                self.send_header("ETag", site.etag)
            self.end_headers()
            if site.hold is not None:
                site.hold.wait(20)
            self.wfile.write(body[: site.cut_after.pop(0)] if site.cut_after else body)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
