"""Frames of stored videos as encoded pictures, with a bounded number of open decoders and a bounded cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Literal

import cv2

from apps.workbench.store.errors import NotFound
from common.errors import FrameUnreadable
from common.video.contract import FrameSource, Image
from common.video.reader import open_source

Format = Literal["png", "jpeg", "webp"]

MIME: dict[str, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_ENCODING = {
    # PNG at the lowest effort: three times faster than the default for a tenth more bytes, and still exact
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 85]),
}


def smaller(image: Image, width: int) -> Image:
    """Scaled down to `width` pixels across, in proportion; the same picture when it is no wider.

    Halved as often as it goes, which OpenCV does six times faster than averaging areas in other proportions; what is left
    is less than half, where weighting the four nearest pixels skips none.
    """
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if image.shape[1] <= width:
        return image
    scaled: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return scaled


def encode(image: Image, format: Format) -> bytes:
    """An RGB picture as file bytes; png loses nothing."""
    suffix, options = _ENCODING[format]
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV could not write a picture of {image.shape} as {suffix}.")
    return data.tobytes()


class Frames:
    """Serves frames by file and number. Safe to call from several threads.

    max_open: videos kept open; more cost memory (a decoder and its frames each), fewer cost opening them again.
    cache_bytes: bound of the encoded frames kept.
    """

    def __init__(self, max_open: int, cache_bytes: int) -> None:
        self._open: OrderedDict[Path, FrameSource] = OrderedDict()
        self._opening: dict[Path, threading.Lock] = {}
        self._max_open = max_open
        self._cache: OrderedDict[tuple[Path, int, str, int], bytes] = OrderedDict()
        self._cache_bytes, self._cached = cache_bytes, 0
        self._lock = threading.Lock()

    def get(self, path: Path, index: int, format: Format = "png", width: int = 0) -> bytes:
        """Frame `index` (0-based, presentation order, upright) as an encoded picture.

        width: scaled down to that many pixels across when it is wider; 0 leaves the size. Raises `NotFound` when the
        frame cannot be had.
        """
        found = self.known(path, index, format, width)
        if found is not None:
            return found
        try:
            image = self._source(path).read(index)
        except FrameUnreadable as error:
            raise NotFound(str(error).replace(path.name, "the video")) from error
        data = encode(smaller(image, width) if 0 < width < image.shape[1] else image, format)
        self._remember((path, index, format, width), data)
        return data

    def known(self, path: Path, index: int, format: Format = "png", width: int = 0) -> bytes | None:
        """The same without any work: None when the picture has to be made first."""
        key = (path, index, format, width)
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
            return found

    def _source(self, path: Path) -> FrameSource:
        # One lock per file: opening scans it, and two requests for a new video must not do so twice, nor hold up others.
        with self._lock:
            opening = self._opening.setdefault(path, threading.Lock())
        with opening:
            with self._lock:
                source = self._open.get(path)
                if source is not None:
                    self._open.move_to_end(path)
                    return source
            source = open_source(path)
            closing: list[FrameSource] = []
            with self._lock:
                self._open[path] = source
                while len(self._open) > self._max_open:
                    oldest, unused = self._open.popitem(last=False)
                    self._opening.pop(oldest, None)
                    closing.append(unused)
        for unused in closing:
            unused.close()  # waits for a read in progress; a closed source still answers one that comes after
        return source

    def _remember(self, key: tuple[Path, int, str, int], data: bytes) -> None:
        if len(data) > self._cache_bytes // 4:
            return
        with self._lock:
            if key not in self._cache:
                self._cache[key] = data
                self._cached += len(data)
            while self._cached > self._cache_bytes:
                self._cached -= len(self._cache.popitem(last=False)[1])

    def close(self) -> None:
        with self._lock:
            sources = list(self._open.values())
            self._open.clear()
            self._opening.clear()
            self._cache.clear()
            self._cached = 0
        for source in sources:
            source.close()
