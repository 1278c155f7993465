"""Makes docs/demo.jpg, the README's picture: six moments of the demonstration clip as `make demo` leaves it.

Usage: make demo && .venv/bin/python docs/picture.py [out/demo/overlay.mp4]
"""

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.video.reader import open_source

MOMENTS = (0, 25, 50, 75, 100, 135)


def main() -> None:
    overlay = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo/overlay.mp4")
    source = open_source(overlay)
    pictures = [source.read(min(frame, source.info.frames - 1)) for frame in MOMENTS]
    sheet = np.vstack([np.hstack(pictures[row : row + 3]) for row in (0, 3)])
    cv2.imwrite(str(Path(__file__).with_name("demo.jpg")), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    main()
