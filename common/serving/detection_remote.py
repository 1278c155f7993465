"""A file from an address that a request names: https to public machines only, of a bounded size."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from common.errors import Interrupted, UserError, WeightsInvalid, WeightsMissing
from common.serving.replies import Rejected
from common.weights.transfer import Rules, fetch

RULES = Rules(waits_s=(0.5,), timeout_s=20.0, longest_s=120.0, what="pictures")


def rules_from_env(env: Mapping[str, str]) -> Rules:
    """ALLOWED_PICTURE_HOSTS: "host:port" by commas, machines of one's own network that pictures may come from, by plain
    http as well."""
    hosts = env.get("ALLOWED_PICTURE_HOSTS", "").split(",")
    return replace(RULES, trusted_hosts=frozenset(host.strip() for host in hosts if host.strip()))


def fetched(url: str, max_bytes: int, stop: threading.Event, rules: Rules = RULES) -> bytes:
    """Streamed to disk and given up as soon as it is larger than allowed. Raises `Rejected` when it cannot be had,
    `Interrupted` once stop is set."""

    def told(done: int, _: int | None) -> None:
        if done > max_bytes:
            raise Rejected(f"The picture at that address is larger than {max_bytes} bytes.", 413)

    with tempfile.TemporaryDirectory(prefix="picture-") as folder:
        part = Path(folder) / "picture"
        try:
            fetch(url, part, rules, None, told, stop)
        except (Interrupted, Rejected):
            raise
        except (WeightsMissing, WeightsInvalid) as error:
            raise Rejected(f"The picture cannot be fetched: {error}") from error
        except UserError as error:
            raise Rejected(str(error), 502) from error
        return part.read_bytes()
