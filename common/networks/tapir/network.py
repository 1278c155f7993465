"""TAPIR and BootsTAPIR: find each point in each frame by matching its feature, then refine iteratively.

Doersch et al., "TAPIR: Tracking Any Point with per-frame Initialization and temporal Refinement", ICCV 2023,
https://arxiv.org/abs/2306.08637. Positions here are (x, y) with (0, 0) the picture's top-left corner: pixel centres lie at
half numbers. Points never influence each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.tapir.backbone import Channels, ExtraConvs, ResNet
from common.networks.tapir.mixer import Context, Mixer

PATCH = 7
NEAR = 5
"""Cells around the best match that count in its position."""

Size = tuple[int, int]
"""height, width"""


@dataclass(frozen=True)
class Config:
    """pyramid_level: coarse maps beside the first, each half as large. initial: size of the picture in which points are
    matched, the unit of positions inside the network. temperature: of the matching's softmax; it is not in the checkpoint:
    10 is what BootsTAPIR was trained with, 20 TAPIR. blocks, width: of the mixer; channels: of the encoder; others than
    the published values are for tests."""

    causal: bool = True
    extra_convs: bool = True
    pyramid_level: int = 1
    iterations: int = 4
    blocks: int = 12
    width: int = 512
    temperature: float = 10.0
    initial: Size = (256, 256)
    channels: Channels = (64, 128, 256, 256)

    @property
    def fine(self) -> int:
        """Channels of the fine map."""
        return self.channels[1]

    @property
    def coarse(self) -> int:
        """Channels of the coarse map."""
        return self.channels[3]


@dataclass(frozen=True)
class Maps:
    """Features of t frames at one resolution, of length 1: fine (t, 128, h/4, w/4), coarse (t, 256, h/8, w/8)."""

    fine: Tensor
    coarse: Tensor
    size: Size


@dataclass(frozen=True)
class Vectors:
    """What n points look like, at one resolution: fine (n, 128), coarse (n, 256)."""

    fine: Tensor
    coarse: Tensor

    def rows(self, rows: slice) -> Vectors:
        return Vectors(self.fine[rows], self.coarse[rows])


@dataclass(frozen=True)
class Guess:
    """Where n points are in t frames: xy (n, t, 2) pixels of the initial size, and logits (n, t) that they are occluded and
    that they are far off."""

    xy: Tensor
    occlusion: Tensor
    distance: Tensor


def refinement_sizes(full: Size, initial: Size) -> list[Size]:
    """The published choice: from the initial to the full size, each at most twice the one before, in multiples of 8."""
    steps = math.ceil(max(math.log2(f / i) for f, i in zip(full, initial, strict=True)))
    if full == initial or steps <= 0:
        return [initial]
    return [
        (_grown(initial[0], full[0], level / steps), _grown(initial[1], full[1], level / steps))
        for level in range(steps + 1)
    ]


def _grown(small: int, large: int, share: float) -> int:
    return int(small * (large / small) ** share // 8) * 8


class Tapir(nn.Module):
    """The network. `maps` and `vectors` describe frames and points, `track` finds the points in the frames."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.resnet_torch = ResNet(config.channels)
        self.extra_convs = ExtraConvs(config.coarse) if config.extra_convs else None
        self.torch_cost_volume_track_mods = nn.ModuleDict(
            {
                "hid1": nn.Conv2d(1, 16, 3, padding=1),
                "hid2": nn.Conv2d(16, 1, 3, padding=1),
                "hid3": nn.Conv2d(16, 32, 3, 2),
                "hid4": nn.Linear(32, 16),
                "occ_out": nn.Linear(16, 2),
            }
        )
        state = 4 + config.fine + config.coarse
        correlations = (config.pyramid_level + 2) * PATCH**2
        self.torch_pips_mixer = Mixer(state + correlations, state, config.causal, config.blocks, config.width)

    def maps(self, frames: Tensor, sizes: Sequence[Size]) -> list[Maps]:
        """Features of frames (t, 3, h, w), in -1..1, at the initial size and at each refinement size."""
        made: list[Maps] = []
        for size in (self.config.initial, *sizes):
            known = next((m for m in made if m.size == size), None)
            made.append(known or self._encode(_resized(frames, size), size))
        return made

    def _encode(self, frames: Tensor, size: Size) -> Maps:
        fine, coarse = self.resnet_torch(frames)
        if self.extra_convs is not None:
            coarse = self.extra_convs(coarse)
        return Maps(_unit(fine), _unit(coarse), size)

    def vectors(self, maps: Sequence[Maps], queries: Tensor, size: Size) -> list[Vectors]:
        """What the points look like at each of the resolutions. queries: (n, 3): number of the frame, x, y in pixels of
        frames of that size."""
        return [Vectors(_at(m.fine, queries, size), _at(m.coarse, queries, size)) for m in maps]

    def track(
        self,
        maps: Sequence[Maps],
        vectors: Sequence[Vectors],
        contexts: Sequence[Context] | None = None,
        queries: Tensor | None = None,
        chunk: int = 64,
    ) -> tuple[list[list[Guess]], list[Context]]:
        """Find the points in the frames: per resolution the guesses after matching (first entry) and after each iteration.

        contexts: of a causal network, one per iteration of all resolutions; None = these frames are the first. queries:
        (n, 3) frame, x, y in pixels of the initial size, of points that are known there. chunk: points at a time, which
        bounds the memory and changes nothing. Returns [[matched], [after iteration 1, 2..] per resolution] and the
        contexts to go on with.
        """
        n = len(vectors[0].fine)
        parts, after = [], []
        for first in range(0, max(n, 1), chunk):
            rows = slice(first, min(first + chunk, n))
            own = None if contexts is None else [(a[rows], b[rows]) for a, b in contexts]
            known = None if queries is None else queries[rows]
            guesses, context = self._track(maps, [v.rows(rows) for v in vectors], own, known)
            parts.append(guesses)
            after.append(context)
        joined = [
            [
                Guess(*(torch.cat([getattr(p[a][b], name) for p in parts]) for name in ("xy", "occlusion", "distance")))
                for b in range(len(parts[0][a]))
            ]
            for a in range(len(parts[0]))
        ]
        merged = [
            (torch.cat([c[i][0] for c in after]), torch.cat([c[i][1] for c in after])) for i in range(len(after[0]))
        ]
        return joined, merged

    def _track(
        self,
        maps: Sequence[Maps],
        vectors: Sequence[Vectors],
        contexts: Sequence[Context] | None,
        queries: Tensor | None,
    ) -> tuple[list[list[Guess]], list[Context]]:
        matched = self._match(maps[0].coarse, vectors[0].coarse, queries)
        guesses, after, xy = [[matched]], [], matched.xy
        for level, (here, looks) in enumerate(zip(maps[1:], vectors[1:], strict=True)):
            fine, coarse = here.fine, here.coarse
            pyramid = [fine, coarse]
            for _ in range(self.config.pyramid_level):
                pyramid.append(F.avg_pool2d(pyramid[-1], 2))
            frames = fine.shape[0]
            features = torch.cat([looks.fine, looks.coarse], 1)[:, None].expand(-1, frames, -1)
            guess, steps = Guess(xy, matched.occlusion, matched.distance), []
            for iteration in range(self.config.iterations):
                number = level * self.config.iterations + iteration
                context = None if contexts is None else contexts[number]
                guess, features, left = self._refine(pyramid, features, guess, here.size, context)
                steps.append(guess)
                after.append(left)
            guesses.append(steps)
            xy = guess.xy
        return guesses, after

    def _match(self, grid: Tensor, looks: Tensor, queries: Tensor | None) -> Guess:
        """Each point in each frame, by its look alone. grid: (t, 256, h, w). looks: (n, 256)."""
        mods = self.torch_cost_volume_track_mods
        n, (t, _, h, w) = len(looks), grid.shape
        volume = torch.einsum("nc,tchw->nthw", looks, grid).reshape(n * t, 1, h, w)
        hidden = F.relu(mods["hid1"](volume))
        heat = mods["hid2"](hidden).reshape(n, t, h * w)
        share = torch.softmax(heat * self.config.temperature, -1)
        y, x = torch.meshgrid(
            torch.arange(h, device=grid.device) + 0.5, torch.arange(w, device=grid.device) + 0.5, indexing="ij"
        )
        cells = torch.stack([x, y], -1).reshape(-1, 2).to(grid.dtype)
        best = cells[share.argmax(-1)]
        near = (cells - best[:, :, None]).square().sum(-1) < NEAR**2
        share = share * near
        xy = (share @ cells) / share.sum(-1, keepdim=True).clamp_min(1e-12)
        scale = torch.tensor([self.config.initial[1] / w, self.config.initial[0] / h], device=grid.device)
        xy = xy * scale
        if queries is not None:
            here = queries[:, :1].round() == torch.arange(t, device=grid.device)
            xy = torch.where(here[..., None], queries[:, None, 1:], xy)
        hidden = F.relu(mods["hid3"](F.pad(hidden, (0, 2, 0, 2)))).mean((-2, -1))
        logits = mods["occ_out"](F.relu(mods["hid4"](hidden))).reshape(n, t, 2)
        return Guess(xy, logits[..., 0], logits[..., 1])

    def _refine(
        self, pyramid: Sequence[Tensor], features: Tensor, guess: Guess, size: Size, context: Context | None
    ) -> tuple[Guess, Tensor, Context]:
        """One iteration. features: (n, t, 384), what the points look like in each frame, fine and coarse."""
        initial_h, initial_w = self.config.initial
        fine = self.config.fine
        correlations = []
        for level, grid in enumerate(pyramid):
            look = features[..., :fine] if level == 0 else features[..., fine:]
            h, w = grid.shape[-2:]
            scale = torch.tensor([w / initial_w, h / initial_h], device=grid.device)
            correlations.append(_correlate(grid, guess.xy * scale, look))
        logits = torch.stack([guess.occlusion, guess.distance], -1)
        x = torch.cat([torch.zeros_like(guess.xy), logits, features, *correlations], -1)
        update, left = self.torch_pips_mixer(x, context)
        scale = torch.tensor([initial_w / size[1], initial_h / size[0]], device=x.device)
        refined = Guess(
            guess.xy + update[..., :2] * scale, guess.occlusion + update[..., 2], guess.distance + update[..., 3]
        )
        return refined, features + update[..., 4:], left


def visible_probability(occlusion: Tensor, distance: Tensor) -> Tensor:
    """Probability that a point is seen and is where it is said to be; above 0.5 counts as visible."""
    return torch.sigmoid(-occlusion) * torch.sigmoid(-distance)


def _resized(frames: Tensor, size: Size) -> Tensor:
    if frames.shape[-2:] == size:
        return frames
    return F.interpolate(frames, size, mode="bilinear", align_corners=False)


def _unit(x: Tensor) -> Tensor:
    return x / x.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()


def _at(grid: Tensor, queries: Tensor, size: Size) -> Tensor:
    """Features (n, c) of grid (t, c, h, w) at queries (n, 3), frame, x, y in pixels of pictures of that size."""
    height, width = size
    t = len(grid)
    where = torch.stack([queries[:, 1] / width, queries[:, 2] / height, (queries[:, 0] + 0.5) / t], -1) * 2 - 1
    found = F.grid_sample(
        grid.movedim(0, 1)[None], where[None, :, None, None], padding_mode="border", align_corners=False
    )
    return found[0, :, :, 0, 0].T


def _correlate(grid: Tensor, xy: Tensor, looks: Tensor) -> Tensor:
    """How like looks (n, t, c) the grid (t, c, h, w) is at the 7 x 7 places around xy (n, t, 2), cells: (n, t, 49)."""
    half = PATCH // 2
    steps = torch.arange(-half, half + 1, device=grid.device, dtype=xy.dtype)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    around = torch.stack([dx, dy], -1).reshape(-1, 2)
    # The published lookup divides both coordinates by the height, so pictures must be square; kept, as it is the network.
    where = (xy.movedim(1, 0)[:, :, None] + around) / grid.shape[-2] * 2 - 1
    patches = F.grid_sample(grid, where, padding_mode="zeros", align_corners=False)
    return torch.einsum("tcnp,ntc->ntp", patches, looks)
