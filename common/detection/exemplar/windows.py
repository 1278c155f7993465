"""Sliding windows: linear templates over all places and sizes of a picture at once, and the best places of each.

Source: linear discriminant templates on gradient features, Hariharan, Malik and Ramanan 2012, "Discriminative decorrelation
for clustering and classification"; correlation by the fast Fourier transform, Dubout and Fleuret 2012, "Exact acceleration
of linear object detectors".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft, linalg

from common.detection.exemplar.channels import CELL, PAD, Level

Float = NDArray[np.float32]

MARGIN = 0.15
"""Share of an object's size that its window shows around it, on each side."""


@dataclass(frozen=True, eq=False)
class Template:
    """weights: float32 (rows, columns, channels). offset: such that background scores 0 and objects 1 on average. label:
    index of its class."""

    weights: Float
    offset: float
    label: int

    @property
    def grid(self) -> tuple[int, int]:
        return self.weights.shape[0], self.weights.shape[1]

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the object in a window, in pixels of the size that is looked at."""
        rows, columns = self.grid
        return columns * CELL / (1 + 2 * MARGIN), rows * CELL / (1 + 2 * MARGIN)


def grid_of(aspect: float, side: int) -> tuple[int, int]:
    """Rows and columns of a window for objects of that width / height whose side is `side` pixels."""
    cells = side / CELL * (1 + 2 * MARGIN)
    aspect = float(np.clip(aspect, 0.2, 5.0))
    return max(4, round(cells / np.sqrt(aspect))), max(4, round(cells * np.sqrt(aspect)))


def discriminant(objects: Float, background: Float, shape: tuple[int, int, int], label: int) -> Template:
    """The linear template that tells samples of objects (n, d) from those of background (m, d); d = product of shape."""
    low, high = background.mean(0), objects.mean(0)
    centred = (background - low).astype(np.float32)
    scatter = centred.T @ centred / max(len(background) - 1, 1)
    if len(objects) > 1:
        own = objects - high
        share = min(0.5, len(objects) / len(background))
        scatter = (1 - share) * scatter + share * (own.T @ own / (len(objects) - 1))
    # few samples for many dimensions: drawn towards equal variances
    scatter[np.diag_indices_from(scatter)] += 0.1 * float(np.trace(scatter)) / len(scatter) + 1e-4
    weights = linalg.solve(scatter, high - low, assume_a="pos", check_finite=False)
    spread = float(weights @ (high - low))
    weights = weights / max(spread, 1e-9)
    return Template(weights.reshape(shape).astype(np.float32), float(-weights @ low), label)


class Finder:
    """Responses of templates. Keeps their spectra for the picture sizes seen last."""

    def __init__(self, templates: Sequence[Template]) -> None:
        self._templates = list(templates)
        self._spectra: dict[tuple[int, int], list[NDArray[np.complex64]]] = {}

    def windows(self, levels: Sequence[Level], most: int) -> tuple[Float, Float, NDArray[np.int64]]:
        """Boxes (n, 4) in pixels of the picture, responses (n,) and labels (n,) of the best windows, best first: local
        maxima of each template at each size, `most` in all for each class."""
        boxes: list[Float] = []
        scores: list[Float] = []
        labels: list[NDArray[np.int64]] = []
        for one in levels:
            for template, response in zip(self._templates, self._responses(one), strict=True):
                if not response.size:
                    continue
                peak = response >= cv2.dilate(response, np.ones((3, 3), np.uint8))
                y, x = np.nonzero(peak & (response > 0.1))
                value = response[y, x]
                if len(value) > most:
                    best = np.argpartition(-value, most)[:most]
                    y, x, value = y[best], x[best], value[best]
                width, height = template.extent
                cx = (x + template.grid[1] / 2 - PAD) * CELL
                cy = (y + template.grid[0] / 2 - PAD) * CELL
                sx, sy = one.scale
                found = np.stack(
                    ((cx - width / 2) / sx, (cy - height / 2) / sy, (cx + width / 2) / sx, (cy + height / 2) / sy), 1
                )
                boxes.append(found.astype(np.float32))
                scores.append(value)
                labels.append(np.full(len(value), template.label, np.int64))
        if not boxes:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        every, value, kind = np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels)
        order = np.argsort(-value, kind="stable")
        place = np.zeros(len(order), np.int64)
        for label in np.unique(kind):
            mine = kind[order] == label
            place[mine] = np.arange(mine.sum())
        order = order[place < most]
        return every[order], value[order], kind[order]

    def _responses(self, one: Level) -> list[Float]:
        height, width = one.maps.shape[:2]
        shape = (fft.next_fast_len(height, True), fft.next_fast_len(width, True))
        spectra = self._spectra.get(shape)
        if spectra is None:
            spectra = [np.conj(fft.rfft2(t.weights, shape, axes=(0, 1))).astype(np.complex64) for t in self._templates]
            if len(self._spectra) > 24:
                self._spectra.clear()
            self._spectra[shape] = spectra
        spectrum = fft.rfft2(one.maps, shape, axes=(0, 1))
        out = []
        for template, own in zip(self._templates, spectra, strict=True):
            response = fft.irfft2(np.einsum("ijk,ijk->ij", spectrum, own), shape, axes=(0, 1))
            rows, columns = template.grid
            valid = response[: max(0, height - rows + 1), : max(0, width - columns + 1)]
            out.append(np.ascontiguousarray(valid + np.float32(template.offset), np.float32))
        return out
