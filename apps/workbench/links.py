"""Pictures and videos that are added by link: fetched once and kept like files that were sent, so they stay as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from apps.workbench.api.media_upload import Probe
from apps.workbench.bench import Workbench
from apps.workbench.media import probe
from apps.workbench.pictures import probe_picture
from apps.workbench.store import videos
from apps.workbench.store.errors import Refused, TooLarge
from common.errors import Interrupted, UserError
from common.weights.transfer import Rules, fetch

MAX_BYTES = 512 * 1024 * 1024
LONGEST_S = 120.0
"""For one picture, however little of it comes at a time."""
MAX_VIDEO_BYTES = 16 * 1024 * 1024 * 1024
LONGEST_VIDEO_S = 1800.0
LONGEST_REQUEST_S = 3600.0
"""For all links of a request."""


@dataclass(frozen=True)
class Kind:
    """word: in messages. probe: what is inside, `Refused` for another kind. max_bytes, longest_s: of one."""

    word: str
    probe: Probe
    max_bytes: int
    longest_s: float


def picture() -> Kind:
    return Kind("picture", probe_picture, MAX_BYTES, LONGEST_S)


def video(bench: Workbench) -> Kind:
    """No larger than what may be sent as a file."""
    return Kind("video", probe, min(MAX_VIDEO_BYTES, bench.settings.max_upload_bytes), LONGEST_VIDEO_S)


_AT_A_TIME = 4
_PIECE = 1 << 20


def keep_links(bench: Workbench, links: Sequence[str], kind: Kind) -> dict[str, str]:
    """Hash by link. From https addresses of public machines, and from hosts that the settings name; all of them together
    within `LONGEST_REQUEST_S`.

    Raises `Refused` for a link that leads nowhere or to another kind of file, `TooLarge`; what was fetched before is kept.
    """
    end = time.monotonic() + LONGEST_REQUEST_S
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="links") as pool:
        wanted = list(dict.fromkeys(links))
        return dict(zip(wanted, pool.map(lambda link: _keep(bench, link, kind, end), wanted), strict=True))


def _keep(bench: Workbench, link: str, kind: Kind, end: float) -> str:
    """end: when it must be here, by `time.monotonic`."""
    name = f"{kind.word} at {link[:200]}"
    rules = Rules(
        trusted_hosts=bench.settings.link_hosts,
        waits_s=(0.5,),
        timeout_s=20.0,
        longest_s=max(0.0, min(kind.longest_s, end - time.monotonic())),
        what=f"{kind.word}s",
    )

    def told(done: int, whole: int | None) -> None:
        if max(done, whole or 0) > kind.max_bytes:
            raise TooLarge(f"The {name} is larger than {kind.max_bytes} bytes.")

    bench.link_folder.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=bench.link_folder) as folder:
        part = Path(folder) / kind.word
        try:
            fetch(link, part, rules, None, told, bench.ending)
        except Interrupted as error:
            raise Refused(f"The workbench ended before the {name} was fetched.") from error
        except TooLarge:
            raise
        except UserError as error:
            raise Refused(f"The {name} cannot be fetched: {error}") from error
        meta = kind.probe(part, f"The {name}")
        with bench.blobs.incoming() as incoming, part.open("rb") as file:
            while piece := file.read(_PIECE):
                incoming.write(piece)
            hash = incoming.finish()
            with bench.database.write() as session:
                bench.blobs.keep(incoming)
                videos.remember_blob(session, hash, incoming.size, meta)
    return hash
