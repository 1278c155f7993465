"""Snap a soft label to the edges of the picture.

Guided filter: He, Sun, Tang, Guided Image Filtering, PAMI 2013, with the coefficients computed at half resolution
(He, Sun, Fast Guided Filter, 2015).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Float = NDArray[np.float32]


def snap_to_edges(guide: Image, label: Float, radius: int, smoothness: float) -> Float:
    """Label float32 (h, w), made locally a linear function of the guide's colour; same shape, about 0..1.

    radius: of the neighbourhood in pixels; larger moves the boundary further to find an edge. smoothness: variance of
    colour (levels squared) below which a neighbourhood counts as flat and is only blurred.
    """
    height, width = label.shape
    small = (max(1, width // 2), max(1, height // 2))
    colour = cv2.resize(guide, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    target = cv2.resize(label, small, interpolation=cv2.INTER_AREA)
    size = (radius | 1, radius | 1)
    red, green, blue = cv2.split(colour)
    mean = cv2.blur(colour, size)
    mean_target = cv2.blur(target, size)
    covariance = cv2.blur(colour * target[..., None], size) - mean * mean_target[..., None]
    squares = cv2.blur(cv2.merge([red * red, green * green, blue * blue]), size) - mean * mean
    crossed = cv2.blur(cv2.merge([red * green, red * blue, green * blue]), size)
    mr, mg, mb = cv2.split(mean)
    rr, gg, bb = (s + smoothness for s in cv2.split(squares))
    rg, rb, gb = (c - m for c, m in zip(cv2.split(crossed), (mr * mg, mr * mb, mg * mb), strict=True))
    # Inverse of the symmetric 3 x 3 covariance by cofactors.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    kr, kg, kb = cv2.split(covariance)
    slope = [
        (c_rr * kr + c_rg * kg + c_rb * kb) / determinant,
        (c_rg * kr + c_gg * kg + c_gb * kb) / determinant,
        (c_rb * kr + c_gb * kg + c_bb * kb) / determinant,
    ]
    offset = mean_target - slope[0] * mr - slope[1] * mg - slope[2] * mb
    coefficients = cv2.resize(cv2.blur(cv2.merge([*slope, offset]), size), (width, height))
    full = guide.astype(np.float32)
    return np.asarray(np.einsum("hwc,hwc->hw", coefficients[..., :3], full) + coefficients[..., 3], np.float32)
