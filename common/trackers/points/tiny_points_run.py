"""Lucas-Kanade carries the points; the network looks for those that it lost.

Alignment to the point's own patch is exact as long as the patch looks as it did; the network, which has learned what looks
may become, is right more often and less exactly. So a point that the alignment holds is left to it, and what the network finds
is aligned once more where the patch is known again. On generated clips, where both spoke of a followed point and differed,
Lucas-Kanade was right more often; of hidden points, the network was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Points
from common.trackers.points import patches
from common.trackers.points.field import Field
from common.trackers.points.lucas_kanade import LucasKanadeRun, _gray
from common.trackers.points.network_run import EXEMPLARS, inside
from common.trackers.points.tiny_points_look import F32, I64, Eye, Pyramid, Sight
from common.tracking.contract import Exemplar
from common.tracking.snapshot import pack
from common.video.contract import Image

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class TinyPointsSettings:
    """found: chance of being exact from which a hidden point counts as found; near: the same for it to be put there without
    being called seen. drift: least pixels that a point is looked for about its place.
    """

    found: float = 0.7
    near: float = 0.3
    drift: float = 4.0


class TinyPointsRun(LucasKanadeRun):
    """See `Run`. looks: (q, levels, channels, AROUND, AROUND) of points (q,)."""

    def __init__(
        self, eye: Eye, followed: LucasKanadeRun, looks: F32, point: I64, settings: TinyPointsSettings | None = None
    ) -> None:
        super().__init__(followed._shapes, followed._field, followed._poses)
        self._eye, self._looks, self._point = eye, looks, point
        self._settings = settings or TinyPointsSettings()

    @classmethod
    def begin(cls, eye: Eye, followed: LucasKanadeRun, image: Image, exemplars: Sequence[Exemplar]) -> TinyPointsRun:
        """Learn what the points look like, on the first picture and on the first exemplars."""
        field = followed._field
        n = len(field.seen)
        known = np.flatnonzero(field.seen & ~field.helper)
        looks, point = [eye.learn(image, field.xy[known])], [known]
        for exemplar in exemplars[:EXEMPLARS]:
            if exemplar.image.shape != image.shape:
                continue
            drawn = {p.key: p.geometry for p in exemplar.prompts}
            for shape in followed._shapes:
                points = drawn.get(shape.key)
                if isinstance(points, Points) and len(points.xy) == shape.count:
                    usable = points.visible & inside(points.xy, image.shape[1], image.shape[0])
                    (mine,) = np.nonzero(usable)
                    looks.append(eye.learn(exemplar.image, points.xy[mine].astype(np.float64)))
                    point.append(shape.first + mine)
        assert all(len(p) == 0 or p.max() < n for p in point)
        return cls(eye, followed, np.concatenate(looks), np.concatenate(point).astype(np.int64))

    def _carry(self, image: Image) -> None:
        super()._carry(image)
        rows = np.flatnonzero(~self._field.seen[self._point])
        if len(rows):
            correct(self._field, image, self._sight(image, rows), self._settings)

    def _sight(self, image: Image, rows: I64) -> Sight:
        """What the network sees of the points of these looks: of each the look that fits best; nothing of the others."""
        field, point = self._field, self._point[rows]
        n = len(field.seen)
        doubt = np.clip(field.doubt, self._settings.drift, 80.0)
        found = self._eye.find(Pyramid(image), self._looks[rows], field.xy[:n][point], doubt[point])
        sight = Sight(field.xy[:n].copy(), np.zeros(n), np.zeros(n))
        order = np.argsort(found.exact, kind="stable")
        for name in ("xy", "seen", "exact"):
            getattr(sight, name)[point[order]] = getattr(found, name)[order]
        return sight

    def save(self) -> bytes:
        """See `Run`."""
        return pack({"lucas-kanade": super().save(), "looks": self._looks, "point": self._point})


def correct(field: Field, image: Image, sight: Sight, settings: TinyPointsSettings) -> None:
    """Puts hidden queries of the field where the network saw them."""
    n = len(field.seen)
    height, width = image.shape[:2]
    within = inside(sight.xy, width, height)
    shown = within & ~field.seen & (sight.seen > 0.5)
    index = np.flatnonzero(shown & (sight.exact > settings.found))
    near = shown & (sight.exact > settings.near) & (sight.exact <= settings.found)
    field.xy[:n][near] = sight.xy[near]
    field.doubt = np.where(near, np.minimum(field.doubt, settings.drift), field.doubt)
    if len(index):
        _move(field, image, index, sight)


def _move(field: Field, image: Image, index: I64, sight: Sight) -> None:
    """Queries to where the network saw them, exactly if their patch is known again there."""
    gray = _gray(image).astype(np.float32)
    place = sight.xy[index]
    fitted = patches.align(
        gray,
        field.template[index],
        field.jacobian[index],
        patches.CENTRED * field.trust[index],
        place,
        field.affine[index],
        place,
        np.full(len(index), 1.5),
        patches.noise_level(gray),
        affine_px=0.5,
    )
    fits = (fitted.score > 0.75) & (np.hypot(*(fitted.xy - place).T) < 3.0)
    field.xy[index] = np.where(fits[:, None], fitted.xy, place)
    field.affine[index] = np.where(fits[:, None, None], fitted.affine, field.affine[index])
    field.velocity[index] = 0.0
    field.seen[index] = True
    field.score[index] = np.where(fits, fitted.score, sight.exact[index]).astype(np.float32)
    field.hidden[index] = 0
    field.doubt[index] = 1.0
