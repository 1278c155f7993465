"""Pictures that are added by link: fetched once and kept like files that were sent, so that they stay as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from apps.workbench.bench import Workbench
from apps.workbench.pictures import probe_picture
from apps.workbench.store import videos
from apps.workbench.store.errors import Refused, TooLarge
from common.errors import Interrupted, UserError
from common.weights.transfer import Rules, fetch

MAX_BYTES = 512 * 1024 * 1024
LONGEST_S = 120.0
"""For one picture, however little of it comes at a time."""

_AT_A_TIME = 4
_PIECE = 1 << 20


def keep_links(bench: Workbench, links: Sequence[str]) -> dict[str, str]:
    """Hash by link. From https addresses of public machines, and from hosts that the settings name.

    Raises `Refused` for a link that leads nowhere or to no picture, `TooLarge`; what was fetched before is kept.
    """
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="links") as pool:
        wanted = list(dict.fromkeys(links))
        return dict(zip(wanted, pool.map(lambda link: _keep(bench, link), wanted), strict=True))


def _ended(link: str) -> Refused:
    return Refused(f"The workbench ended before the picture at {link[:200]} was fetched.")


def _keep(bench: Workbench, link: str) -> str:
    rules = Rules(trusted_hosts=bench.settings.link_hosts, waits_s=(0.5,), timeout_s=20.0, what="pictures")
    end = time.monotonic() + LONGEST_S
    given_up = Event()
    reasons: list[Exception] = []

    def told(done: int, whole: int | None) -> None:
        if max(done, whole or 0) > MAX_BYTES:
            reasons.append(TooLarge(f"The picture at {link[:200]} is larger than {MAX_BYTES} bytes."))
        elif bench.ending.is_set():
            reasons.append(_ended(link))
        elif time.monotonic() > end:
            reasons.append(Refused(f"The picture at {link[:200]} takes longer than {LONGEST_S:g} s to fetch."))
        else:
            return
        given_up.set()

    if bench.ending.is_set():
        raise _ended(link)
    bench.link_folder.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=bench.link_folder) as folder:
        part = Path(folder) / "picture"
        try:
            fetch(link, part, rules, None, told, given_up)
        except Interrupted as error:
            raise reasons[0] from error
        except UserError as error:
            raise Refused(f"The picture at {link[:200]} cannot be fetched: {error}") from error
        meta = probe_picture(part, f"The picture at {link[:200]}")
        with bench.blobs.incoming() as incoming, part.open("rb") as file:
            while piece := file.read(_PIECE):
                incoming.write(piece)
            hash = incoming.finish()
            with bench.database.write() as session:
                bench.blobs.keep(incoming)
                videos.remember_blob(session, hash, incoming.size, meta)
    return hash
