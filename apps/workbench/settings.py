"""What a person may choose about a workbench, checked once when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """How one workbench runs.

    data: folder that holds everything it keeps (database, videos, token, logs); made when missing, private to its owner.
    host, port: where it listens. Any host but a loopback one shows the workbench to the network: only the token guards it.
    max_upload_bytes: a single upload request above this is refused with 413.
    max_body_bytes: the same for every other request (JSON); raise it for masks of very large frames.
    max_open_videos: decoders kept open for frame requests; each costs what its file's decoder needs.
    frame_cache_bytes: encoded frames kept for apps that ask for the same ones.
    faults: lets tests inject failures over HTTP. Never on for real work.
    allow_remote_apps: lets an app be registered by a URL on another machine; off, only loopback URLs are taken.
    link_hosts: "host:port" of one's own network that images and videos may be added from by link, by plain http as well; others must be
    public machines and give them by https.
    app_start_grace_s: how long a started app may take to become healthy before it is restarted.
    app_check_every_s: seconds between two health checks of a supervised app.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    max_upload_bytes: int = 64 * 1024 * MIB
    max_body_bytes: int = 256 * MIB
    max_open_videos: int = 4
    frame_cache_bytes: int = 64 * MIB
    faults: bool = False
    allow_remote_apps: bool = False
    link_hosts: frozenset[str] = frozenset()
    app_start_grace_s: float = 180.0
    app_check_every_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"Port {self.port} does not exist; choose one from 1 to 65535, such as 8000.")
        if min(self.max_upload_bytes, self.max_body_bytes, self.max_open_videos) < 1:
            raise UserError("Upload, body and open-video limits must be at least 1.")

    @property
    def address(self) -> str:
        """The URL that programs on this machine use."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"
