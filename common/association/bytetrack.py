"""ByteTrack: boxes and motion alone; every detection counts, doubtful ones only to go on with a track.

Source: Zhang et al. 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", arXiv:2110.06864.
"""

from __future__ import annotations

from dataclasses import replace

from common.association.botsort import BotSort
from common.association.settings import Settings


class ByteTrack(BotSort):
    """BoT-SORT's rounds on plain overlap: no camera motion, no looks, no slack."""

    name = "bytetrack"

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(replace(settings or Settings(), camera="none", near=0.0, alike=0.0, slack=0.0))
