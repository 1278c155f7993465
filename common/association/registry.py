"""Online associators by name."""

from __future__ import annotations

from dataclasses import replace

from common.association.botsort import BotSort
from common.association.bytetrack import ByteTrack
from common.association.deepsort import DeepSort
from common.association.online import OnlineAssociator
from common.association.settings import Settings
from common.errors import EngineUnavailable

_KNOWN: dict[str, type[OnlineAssociator]] = {kind.name: kind for kind in (BotSort, DeepSort, ByteTrack)}


def names() -> tuple[str, ...]:
    """Names that `make` takes, the default first."""
    return tuple(_KNOWN)


def make(name: str = "botsort", settings: Settings | None = None, state: bytes | None = None) -> OnlineAssociator:
    """A new one, or one that goes on from what `save` gave, with the same settings.

    Raises `EngineUnavailable` for a name that is not known, ValueError for another associator's snapshot.
    """
    if name not in _KNOWN:
        raise EngineUnavailable(f"There is no associator named {name!r}. Known: {', '.join(_KNOWN)}.")
    made = _KNOWN[name](settings if settings is not None else replace(Settings()))
    if state is not None:
        made.restore(state)
    return made
