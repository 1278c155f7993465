"""Pictures that samples are cut from: they ship inside scikit-image, whose documentation states the terms recorded here.

Nothing else is read. Pictures whose terms the package does not state (motorcycle, moon, page, ...) are left out, and so is
every clip that trackers are measured on. Some pictures are kept for checking only and never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

_LONGEST = 640


@dataclass(frozen=True)
class Picture:
    """file: inside skimage/data. terms: as its loader's documentation states. natural: a photograph of a scene, not a
    texture or a microscope's view. held_out: used by the check only.
    """

    file: str
    terms: str
    natural: bool = False
    held_out: bool = False


PICTURES = (
    Picture("astronaut.png", "public domain (NASA)", natural=True),
    Picture("camera.png", "CC0 by Lav Varshney", natural=True),
    Picture("chelsea.png", "CC0 by Stefan van der Walt", natural=True),
    Picture("clock_motion.png", "public domain by Stefan van der Walt"),
    Picture("cell.png", "CC0"),
    Picture("coins.png", "no known copyright restrictions"),
    Picture("grass.png", "CC0 (CC0Textures)"),
    Picture("brick.png", "CC0 (CC0Textures)"),
    Picture("hubble_deep_field.jpg", "public domain (NASA)"),
    Picture("ihc.png", "no known copyright restrictions"),
    Picture("retina.jpg", "CC0"),
    Picture("text.png", "public domain"),
    Picture("coffee.png", "CC0 by Rachel Michetti", natural=True, held_out=True),
    Picture("rocket.jpg", "public domain (SpaceX)", natural=True, held_out=True),
    Picture("gravel.png", "CC0 (CC0Textures)", held_out=True),
)


def folder() -> Path:
    """Where scikit-image keeps its pictures. Raises ImportError when it is not installed."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ImportError("training cuts samples from pictures in scikit-image, which is not installed")
    return Path(spec.origin).parent / "data"


def read(held_out: bool = False) -> list[tuple[Picture, Rgb]]:
    """The pictures to train on, or those held out: uint8 RGB, at most 640 pixels long."""
    found: list[tuple[Picture, Rgb]] = []
    for picture in PICTURES:
        if picture.held_out != held_out:
            continue
        pixels = cv2.imread(str(folder() / picture.file), cv2.IMREAD_COLOR)
        if pixels is None:
            raise FileNotFoundError(f"{picture.file} is missing from scikit-image's data")
        zoom = _LONGEST / max(pixels.shape[:2])
        if zoom < 1:
            pixels = cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        found.append((picture, np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)))
    return found
