"""Pictures that are being clicked on: the same one is asked for with every click."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from common.video.contract import Image


class Pictures:
    """The pictures used last, at most max_bytes of them. Thread-safe. Callers do not change them."""

    def __init__(self, max_bytes: int = 128 * 1024 * 1024) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[Hashable, Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Image]) -> Image:
        """The picture of a key; `load` gives it when it is not here. Two who ask at once may both load it."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        image = load()
        image.setflags(write=False)
        with self._lock:
            if key not in self._kept and image.nbytes <= self._max_bytes:
                self._kept[key] = image
                self._bytes += image.nbytes
                while self._bytes > self._max_bytes:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image
