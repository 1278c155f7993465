"""TAPNext over a video of any length: one frame after the other, with a state of fixed size.

Positions are (x, y) in pixels of the given frames, (0, 0) the centre of the top-left pixel. All points are declared before
the first frame, since they influence each other; a point may be asked for on a later frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.networks.tapnext.network import Step, TapNext
from common.networks.tapnext.recurrent import State


class Stream:
    """size: height and width of the picture that the network sees. half: compute in half precision where it is safe."""

    def __init__(self, network: TapNext, size: tuple[int, int], half: bool = False) -> None:
        self.network, self.size, self.half = network, size, half
        self.device = network.mask_token.device
        self.asked = torch.zeros(0, dtype=torch.long, device=self.device)
        self.xy = torch.zeros(0, 2, device=self.device)
        self.number = 0
        self.state: list[State] | None = None

    def picture(self, image: NDArray[np.uint8]) -> Tensor:
        """An image (h, w, 3) uint8, resized, in -1..1: (3, height, width)."""
        frame = torch.from_numpy(np.array(image)).to(self.device).movedim(-1, 0).float()[None]
        if frame.shape[-2:] != self.size:
            frame = F.interpolate(frame, self.size, mode="bilinear", align_corners=False)
        return frame[0] / 127.5 - 1

    def add(self, xy: Tensor, frames: Tensor) -> None:
        """Points at xy (n, 2), in the network's pixels, on the frames of those numbers (n,)."""
        self.xy = torch.cat([self.xy, xy.to(self.device).float()])
        self.asked = torch.cat([self.asked, frames.to(self.device).long()])

    def push(self, picture: Tensor) -> Step:
        """The points in the next frame, from `picture`."""
        with torch.autocast(self.device.type, torch.float16, enabled=self.half):
            step: Step
            step, self.state = self.network(picture, self.number, self.asked, self.xy, self.state)
        self.number += 1
        return step

    def save(self) -> dict[str, Any]:
        state = None if self.state is None else [[v.cpu().numpy() for v in block] for block in self.state]
        return {
            "number": self.number,
            "asked": self.asked.cpu().numpy(),
            "xy": self.xy.cpu().numpy(),
            "state": state,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.number = saved["number"]
        self.asked, self.xy = (torch.from_numpy(saved[k]).to(self.device) for k in ("asked", "xy"))
        if saved["state"] is not None:
            self.state = [
                (torch.from_numpy(lru).to(self.device), torch.from_numpy(conv).to(self.device))
                for lru, conv in saved["state"]
            ]
