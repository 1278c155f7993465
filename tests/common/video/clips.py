"""Videos made for the tests: every frame shows its own number as a grid of black and white cells."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from common.video.contract import Image

WIDTH, HEIGHT = 96, 64
ROWS, COLUMNS = 4, 4
_BITS = 12


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """4 x 4 cells: a white and a black one, 12 bits, lowest first, and two of parity."""
    bits = [number >> i & 1 for i in range(_BITS)]
    cells = np.array([1, 0, *bits, sum(bits[::2]) & 1, sum(bits[1::2]) & 1], np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    grey = cells[rows][:, columns].astype(np.int16) * 180 + 38
    # Grain, so that frames are not so easy to code that a file is all headers.
    grain = np.random.default_rng(number).integers(-20, 21, (height, width, 1), np.int16)
    return (grey[..., None] + np.repeat(grain, 3, axis=2)).astype(np.uint8)


def number(image: Image) -> int:
    """The number that a picture shows; -1 when it shows none."""
    height, width = image.shape[:2]
    centres = image[
        ((np.arange(ROWS) * 2 + 1) * height // (2 * ROWS))[:, None],
        (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS),
    ]
    cells = (centres.mean(2) > 128).ravel().tolist()
    bits = cells[2 : 2 + _BITS]
    whole = cells[0] and not cells[1] and cells[-2:] == [sum(bits[::2]) & 1, sum(bits[1::2]) & 1]
    return sum(bit << i for i, bit in enumerate(bits)) if whole else -1


def encode(
    path: Path,
    frames: int,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    stamps: Sequence[int] | None = None,
    rate: Fraction | int = 25,
    gop: int = 12,
    bframes: int | None = None,
    turn: int | None = None,
    format: str | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """One video of numbered frames. stamps: presentation time of each in milliseconds, else at a constant rate."""
    width, height = size
    with av.open(str(path), "w", format=format, container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.gop_size = gop
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        if stamps is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if turn is not None:
            stream.set_display_rotation(turn)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, width, height), format="rgb24")
            frame.pts = i if stamps is None else stamps[i]
            frame.time_base = 1 / Fraction(rate) if stamps is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


X264 = {"preset": "ultrafast", "crf": "24", "threads": "1"}
X264_B = {"preset": "veryfast", "crf": "24", "bf": "3", "sc_threshold": "0", "threads": "1"}
