"""From what the published checkpoints of box trackers hold to the networks' own names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_WRAPPER = "net"
_PARALLEL = "module."


def network_of(entries: dict[str, Any], unused: Collection[str] = ()) -> dict[str, Any]:
    """The network's tensors, out of the training program's wrapper if there is one, without those that nothing reads."""
    network = entries[_WRAPPER] if isinstance(entries.get(_WRAPPER), dict) else entries
    named = {str(name).removeprefix(_PARALLEL): value for name, value in network.items()}
    return {name: value for name, value in named.items() if name not in unused}
