"""What an uploaded picture is: its format and size, from its head; nothing but ordinary formats is taken."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as Pictures

from apps.workbench.store.errors import Refused, TooLarge

MAX_PIXELS = 400_000_000
_FORMATS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
}
_OPENED = tuple(kind for kind in _FORMATS if kind != "MPO")  # which opens as a JPEG
_ON_ITS_SIDE = (5, 6, 7, 8)


def probe_picture(path: Path, name: str) -> dict[str, Any]:
    """{"picture": {"width", "height", "mime"}}, upright pixels. name: what errors call the file.

    Raises `Refused` for what is no picture or is damaged as far as its format tells, `TooLarge`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pictures.DecompressionBombWarning)  # the limit below is ours
            with Pictures.open(path, formats=_OPENED) as picture:
                width, height, kind = picture.width, picture.height, str(picture.format)
                if width * height > MAX_PIXELS:
                    raise TooLarge(f"{name} has {width} x {height} pixels; at most {MAX_PIXELS} are taken.")
                turned = kind in ("JPEG", "MPO") and picture.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
                picture.verify()
    except Pictures.DecompressionBombError as error:
        raise TooLarge(f"{name} has more than {MAX_PIXELS} pixels.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise Refused(f"{name} is no picture that can be read (JPEG, PNG, BMP, WebP, TIFF or GIF).") from error
    if turned:
        width, height = height, width
    return {"picture": {"width": width, "height": height, "mime": _FORMATS[kind]}}
