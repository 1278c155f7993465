"""Where the object's centre is, how large it is, and where inside its cell the centre lies."""

from __future__ import annotations

from torch import Tensor, nn

_BRANCHES = {"ctr": 1, "offset": 2, "size": 2}
_LEAST = 1e-4


class CenterHead(nn.Module):
    """Three convolutional branches over the search grid."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        widths = (inputs, width, width // 2, width // 4, width // 8)
        for branch, outputs in _BRANCHES.items():
            for number in range(1, 5):
                conv = nn.Conv2d(widths[number - 1], widths[number], 3, padding=1)
                self.add_module(
                    f"conv{number}_{branch}", nn.Sequential(conv, nn.BatchNorm2d(widths[number]), nn.ReLU())
                )
            self.add_module(f"conv5_{branch}", nn.Conv2d(widths[4], outputs, 1))

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, c, g, g) -> score (n, 1, g, g) and size (n, 2, g, g), both in 1e-4..1 - 1e-4, and offset (n, 2, g, g)."""
        out = {}
        for branch in _BRANCHES:
            x = grid
            for number in range(1, 6):
                x = self.get_submodule(f"conv{number}_{branch}")(x)
            out[branch] = x.float()
        score, size = (out[name].sigmoid().clamp(_LEAST, 1 - _LEAST) for name in ("ctr", "size"))
        return score, size, out["offset"]
