"""Looks of people by OSNet: crops of a picture in, unit vectors out, all of a picture's in one go."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common.association.reid.osnet import FEATURES, INPUT, WIDTHS, OsNet
from common.errors import EngineUnavailable
from common.video.contract import Image
from common.weights import loading
from common.weights.options import DEFAULT, EngineOptions

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OsNetEmbedder:
    """name: catalogue name, such as osnet_x1_0_msmt17; its beginning says the width. batch: crops at a time; raised: faster
    on a GPU, more memory. Not shared between threads. Raises `WeightsMissing`, `WeightsInvalid`."""

    def __init__(self, name: str = "osnet_x1_0_msmt17", options: EngineOptions = DEFAULT, batch: int = 64) -> None:
        width = next((width for width in WIDTHS if name == width or name.startswith(width + "_")), None)
        if width is None:
            raise EngineUnavailable(f"There is no OSNet {name!r}; names begin with one of {', '.join(WIDTHS)}.")
        self._net = OsNet(width)
        self._device = loading.load(self._net, name, options, convert=official, half=True)
        self._batch = batch
        dtype = next(self._net.parameters()).dtype
        self._mean = torch.tensor(_MEAN, device=self._device, dtype=dtype)[:, None, None] * 255
        self._scale = 1 / (torch.tensor(_DEVIATION, device=self._device, dtype=dtype)[:, None, None] * 255)

    def embed(self, image: Image, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32 (n, 512), unit vectors, for boxes (n, 4) of an RGB picture; zeros where a box is outside of it."""
        pieces, rows = crops(image, xyxy, INPUT)
        out = np.zeros((len(xyxy), FEATURES), np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), self._batch):
                part = torch.from_numpy(pieces[start : start + self._batch]).to(self._device)
                x = (part.permute(0, 3, 1, 2).to(self._mean.dtype) - self._mean) * self._scale
                found = torch.nn.functional.normalize(self._net(x).float(), dim=1)
                out[rows[start : start + self._batch]] = found.cpu().numpy()
        return out


def crops(
    image: Image, xyxy: NDArray[np.floating], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Boxes cut out and brought to (height, width): uint8 (k, height, width, 3), and which boxes (those with a pixel inside
    the picture). Averaged when reduced, as what the networks were trained on."""
    height, width = image.shape[:2]
    corners = np.asarray(xyxy, np.float64).reshape(-1, 4).round().astype(np.int64)
    low = np.clip(corners[:, :2], 0, (width, height))
    high = np.clip(corners[:, 2:], 0, (width, height))
    rows = np.flatnonzero((high > low).all(1))
    out = np.empty((len(rows), *size, 3), np.uint8)
    for piece, row in zip(out, rows.tolist(), strict=True):
        (x1, y1), (x2, y2) = low[row].tolist(), high[row].tolist()
        area = cv2.INTER_AREA if (y2 - y1 > size[0] and x2 - x1 > size[1]) else cv2.INTER_LINEAR
        cv2.resize(image[y1:y2, x1:x2], size[::-1], dst=piece, interpolation=area)
    return out, rows


def official(entries: dict[str, Any]) -> dict[str, Any]:
    """deep-person-reid's checkpoints: with or without "state_dict" and "module.", and a classifier of the training set."""
    inner = entries.get("state_dict", entries)
    plain = {str(name).removeprefix("module."): value for name, value in inner.items()}
    return {name: value for name, value in plain.items() if not name.startswith("classifier.")}
