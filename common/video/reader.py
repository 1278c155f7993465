"""Opening whatever a person points at: a video file or a folder of images."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import VideoUnreadable
from common.video.contract import FrameSource
from common.video.image_folder import ImageFolder
from common.video.video_file import VideoFile


def open_source(path: str | os.PathLike[str]) -> FrameSource:
    """Frames of a video file, or of a folder of images in natural order of their names.

    Raises `VideoUnreadable`, in one line, when there is nothing at `path`, or nothing in it that can be shown. A damaged
    file opens with the frames that can be had; `info.damage` says what is missing.
    """
    place = Path(path).expanduser()
    try:
        return ImageFolder(place) if place.is_dir() else VideoFile(place)
    except OSError as error:
        raise VideoUnreadable(f"{place.name} cannot be read: {error.strerror or error}.") from error
