"""Frames out of a folder of images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from common.errors import FrameUnreadable, VideoUnreadable
from common.video.contract import Image, VideoInfo

SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".gif", ".jp2", ".avif", ".mpo"))  # fmt: skip
"""Endings, in lower case, of the files that count as images. Others are left alone, as are hidden files."""

CHECK_WHOLE_PIXELS = 32 << 20
"""Folders of fewer pixels in all are decoded once at opening to find broken files; larger ones only their headers."""

_FAULTS = (OSError, UnidentifiedImageError, ValueError, SyntaxError, Pillow.DecompressionBombError)
_TURNED = (5, 6, 7, 8)


class ImageFolder:
    """A `FrameSource` over the images of a folder (not of its subfolders), in natural order: 2 comes before 10.

    Numbers left out in the names are no gaps: frames are counted by file. EXIF orientation is applied, grey, palette and
    CMYK become RGB, transparency is dropped, 16 bits are scaled to 8. All images must have the size of the first that
    can be opened; one of another size is a frame that cannot be read, since what is drawn on one frame would not fit
    the next. There is no clock: `info.fps` is 0. Raises `VideoUnreadable` when the folder has no image that can be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        names = [
            entry.name
            for entry in path.iterdir()
            if not entry.name.startswith(".") and entry.suffix.lower() in SUFFIXES and entry.is_file()
        ]
        if not names:
            raise VideoUnreadable(
                f"The folder {path.name} has no images in it (such as .jpg or .png). Choose a folder of images or a video."
            )
        # Fixed width bytes: an array of names costs a fraction of a list of strings.
        self._names: NDArray[np.bytes_] = np.array([os.fsencode(name) for name in sorted(names, key=_natural)])
        size, fault, faults, first = self._survey()
        damage = (
            f"{faults} of {len(names)} images cannot be used; the first is frame {first}: {fault}" if faults else None
        )
        self._info = VideoInfo(len(names), size[0], size[1], 0.0, 0, path.name or str(path), damage)

    @property
    def info(self) -> VideoInfo:
        return self._info

    def read(self, index: int) -> Image:
        if not 0 <= index < len(self._names):
            raise FrameUnreadable(
                f"The folder {self._path.name} has frames 0 to {len(self._names) - 1}; there is no frame {index}.",
                index,
            )
        return self._load(index, (self._info.width, self._info.height))

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, max(stop, -1), -1) if stop < start else range(start, stop):
            yield self.read(index)

    def close(self) -> None:
        """Nothing is held open."""

    def _survey(self) -> tuple[tuple[int, int], str, int, int]:
        """Size of the frames (width, height); the first fault in words, how many there are, and where the first is."""
        size: tuple[int, int] | None = None
        fault, faults, first, pixels = "", 0, -1, 0
        for index in range(len(self._names)):
            try:
                if pixels <= CHECK_WHOLE_PIXELS:
                    height, width, _ = self._load(index, size).shape
                    found = (width, height)
                else:
                    found = self._measure(index, size)
                pixels += found[0] * found[1]
                size = size or found
            except FrameUnreadable as error:
                if not faults:
                    fault, first = str(error), index
                faults += 1
        if size is None:
            raise VideoUnreadable(f"No image in the folder {self._path.name} can be read. {fault}")
        return size, fault, faults, first

    def _name(self, index: int) -> str:
        return os.fsdecode(bytes(self._names[index]))

    def _measure(self, index: int, expected: tuple[int, int] | None) -> tuple[int, int]:
        """Upright (width, height), from the file's header alone."""
        try:
            with Pillow.open(self._path / self._name(index)) as picture:
                width, height = picture.size
                if picture.getexif().get(0x0112, 1) in _TURNED:
                    width, height = height, width
        except _FAULTS as error:
            raise self._broken(index) from error
        self._fits(index, (width, height), expected)
        return width, height

    def _load(self, index: int, expected: tuple[int, int] | None) -> Image:
        try:
            with _whole_files_only(), Pillow.open(self._path / self._name(index)) as picture:
                rgb = _rgb(ImageOps.exif_transpose(picture))
        except FileNotFoundError as error:
            raise FrameUnreadable(
                f"The image {self._name(index)} (frame {index}) is no longer there.", index
            ) from error
        except _FAULTS as error:
            raise self._broken(index) from error
        self._fits(index, (rgb.shape[1], rgb.shape[0]), expected)
        return rgb

    def _broken(self, index: int) -> FrameUnreadable:
        return FrameUnreadable(
            f"The image {self._name(index)} (frame {index}) is damaged and cannot be read. Replace or remove it.", index
        )

    def _fits(self, index: int, size: tuple[int, int], expected: tuple[int, int] | None) -> None:
        if expected is not None and size != expected:
            raise FrameUnreadable(
                f"The image {self._name(index)} (frame {index}) is {size[0]} x {size[1]} pixels, but the sequence is "
                f"{expected[0]} x {expected[1]}. All images must have one size; resize or remove it.",
                index,
            )


_PILLOW = Lock()


@contextmanager
def _whole_files_only() -> Iterator[None]:
    """Images that are cut short are errors, also where another library (the Supervisely SDK) has told Pillow otherwise."""
    with _PILLOW:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _rgb(picture: Pillow.Image) -> Image:
    """Any mode of Pillow's -> RGB uint8, a fresh array."""
    if picture.mode.startswith("I"):
        # 16 bit grey arrives as "I;16", or, from some files, as 32 bit integers that hold 16 bits.
        deep = np.asarray(picture).astype(np.float64)
        grey = np.clip(np.rint(deep / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture))
        unit = values.size and values.max() <= 1.0
        grey = np.clip(np.rint(values * 255 if unit else values), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(picture.convert("RGB"))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which numbers in names count as numbers.

    >>> sorted(["f10.png", "f2.png", "F1.png", "f02.png"], key=_natural)
    ['F1.png', 'f02.png', 'f2.png', 'f10.png']
    """
    parts = re.split(r"([0-9]+)", name)
    key = [(1, int(part), "") if part.isdecimal() else (0, 0, part.casefold()) for part in parts if part]
    return [*key, (0, 0, name)]
