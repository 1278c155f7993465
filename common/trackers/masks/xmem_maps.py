"""Between the contract's values and the label maps of networks that segment all objects of a picture together.

XMem and Cutie share it. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.types import Bool, Mask
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.video.contract import Image

T = TypeVar("T")


@dataclass(frozen=True)
class VosSettings:
    """Of networks for video object segmentation with a memory.

    short_side: larger pictures are brought to it (pixels); raising it costs memory and time and finds smaller objects.
    most_pixels: of a picture, for very wide ones. memory_every: frames between two that are memorised. long_tokens: most
    of the long-term memory. exemplars: most labelled frames besides the first that are kept for ever.
    """

    short_side: int = 480
    most_pixels: int = 480 * 1280
    memory_every: int = 5
    long_tokens: int = 10_000
    exemplars: int = 4

    def long_room(self, tokens: int) -> int:
        """Most long-term tokens for pictures of so many tokens: no more than ten pictures have.

        Below 1000 tokens (640x400) that is less than the networks' authors allow; prototypes would there be no fewer than
        what they stand for.
        """
        return min(self.long_tokens, 10 * tokens)


def drawn_masks(image: Image, prompts: Sequence[Prompt]) -> Bool:
    """The prompts' masks, bool (n, H, W). Raises `PromptInvalid` for what is no mask, empty, or of another picture's size."""
    masks = np.zeros((len(prompts), *image.shape[:2]), bool)
    for row, prompt in zip(masks, prompts, strict=True):
        row[:] = _array(image, prompt)
        if not row.any():
            raise PromptInvalid(f"Object {prompt.key!r}: the mask is empty; paint the object on the first frame.")
    return masks


def exemplar_masks(exemplar: Exemplar, keys: Collection[str]) -> tuple[list[str], Bool]:
    """The keys that an exemplar labels, of those wanted, and their masks, bool (n, H, W); an empty mask says that the
    object is not in that picture. Raises `PromptInvalid` for what is no mask or of another picture's size.
    """
    labelled = {p.key: _array(exemplar.image, p) for p in exemplar.prompts if p.key in keys}
    return list(labelled), np.array(list(labelled.values()), bool).reshape(-1, *exemplar.image.shape[:2])


def _array(image: Image, prompt: Prompt) -> Bool:
    mask = prompt.geometry
    if not isinstance(mask, Mask):
        raise PromptInvalid(
            f"Object {prompt.key!r}: this tracker follows masks; draw a mask or choose another tracker."
        )
    height, width = image.shape[:2]
    if (mask.height, mask.width) != (height, width):
        raise PromptInvalid(
            f"Object {prompt.key!r}: the mask is {mask.width}x{mask.height} pixels but the frame is {width}x{height}."
        )
    return mask.to_array()


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, in order, evenly chosen: the last and others at equal distances before it.

    >>> spread([1, 2, 3, 4, 5, 6, 7], 3)
    [1, 4, 7]
    >>> spread([1, 2], 3), spread([1, 2], 1), spread([1, 2], 0)
    ([1, 2], [2], [])
    """
    if len(items) <= most:
        return list(items)
    if most <= 1:
        return list(items[-1:]) if most else []
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def working_size(height: int, width: int, short_side: int, most: int) -> tuple[int, int]:
    """Height and width for the network: the shorter side at most `short_side`, no more than `most` pixels, never enlarged.

    >>> working_size(1080, 1920, 480, 614_400), working_size(72, 96, 480, 614_400), working_size(480, 9000, 480, 614_400)
    ((480, 853), (72, 96), (181, 3394))
    """
    factor = min(1.0, short_side / min(height, width), math.sqrt(most / (height * width)))
    if factor == 1.0:
        return height, width
    # A tiny share more, so that 1080 * (480 / 1080) does not come out as 479.
    return max(1, int(height * factor + 1e-6)), max(1, int(width * factor + 1e-6))


def predictions(keys: Sequence[str], label: NDArray[np.int16], value: NDArray[np.float32]) -> list[Prediction]:
    """One for each key, without overlap. label: (H, W), 0 = background, i + 1 = keys[i]; value: (H, W), its probability.

    The score is the mean probability over the mask. An object without a pixel is lost; one whose pixels are more likely
    something else (only possible among several) is not called visible.
    """
    flat = label.ravel()
    area = np.bincount(flat, minlength=len(keys) + 1)
    total = np.bincount(flat, value.ravel().astype(np.float64), len(keys) + 1)
    given = []
    for number, key in enumerate(keys, 1):
        if area[number] == 0:
            given.append(Prediction(key, None, 0.0, False))
            continue
        score = float(np.clip(total[number] / area[number], 0.0, 1.0))
        given.append(Prediction(key, Mask.from_array(label == number), score, score >= 0.5))
    return given
