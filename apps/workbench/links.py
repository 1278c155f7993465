"""Pictures and videos that are added by link: fetched once and kept like files that were sent, so they stay as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

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
    """Hash by link. From https addresses of public machines, and from hosts that the settings name.

    Raises `Refused` for a link that leads nowhere or to another kind of file, `TooLarge`; what was fetched before is kept.
    """
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="links") as pool:
        wanted = list(dict.fromkeys(links))
        return dict(zip(wanted, pool.map(lambda link: _keep(bench, link, kind), wanted), strict=True))


def _keep(bench: Workbench, link: str, kind: Kind) -> str:
    name = f"{kind.word} at {link[:200]}"
    rules = Rules(trusted_hosts=bench.settings.link_hosts, waits_s=(0.5,), timeout_s=20.0, what=f"{kind.word}s")
    end = time.monotonic() + kind.longest_s
    ended = Refused(f"The workbench ended before the {name} was fetched.")
    given_up = Event()
    reasons: list[Exception] = []

    def told(done: int, whole: int | None) -> None:
        if max(done, whole or 0) > kind.max_bytes:
            reasons.append(TooLarge(f"The {name} is larger than {kind.max_bytes} bytes."))
        elif bench.ending.is_set():
            reasons.append(ended)
        elif time.monotonic() > end:
            reasons.append(Refused(f"The {name} takes longer than {kind.longest_s:g} s to fetch."))
        else:
            return
        given_up.set()

    if bench.ending.is_set():
        raise ended
    bench.link_folder.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=bench.link_folder) as folder:
        part = Path(folder) / kind.word
        try:
            fetch(link, part, rules, None, told, given_up)
        except Interrupted as error:
            raise reasons[0] from error
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
