"""The box tracker that needs no weights: a correlation filter with colour, flow and a memory of the first frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.types import Box, OrientedBox
from common.trackers.boxes import anchor, colour, features, filter, flow
from common.trackers.boxes.patches import Double, Pyramid
from common.trackers.boxes.run import CELLS, STIFFNESS, WINDOW, CorrelationRun, clearness
from common.trackers.boxes.state import State
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.tracking.snapshot import unpack
from common.video.contract import Image

_CONTEXT = 5.0

CARD = TrackerCard(
    name="correlation",
    title="Correlation filter (no weights)",
    geometries=frozenset({"box", "oriented_box"}),
    licence="Apache-2.0",
    memory_bound="the number of objects (about 2 MB each) and the size of one frame",
    paper="Li et al., Learning spatial-temporal regularized correlation filters for visual tracking, CVPR 2018",
)


class CorrelationTracker:
    """Tracks boxes and oriented boxes. Stateless: a run holds everything."""

    @property
    def card(self) -> TrackerCard:
        """See `TrackerCard`."""
        return CARD

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> CorrelationRun:
        """Begin. An object starts from what it looks like on the first exemplar that shows it and on `image`, as if it had
        been followed from there: it may be half hidden where the person drew it.

        Raises `PromptInvalid` for a geometry that is no box, has no area or lies outside the picture.
        """
        height, width = image.shape[:2]
        pose = np.array([_pose(p, width, height) for p in prompts], np.float64).reshape(-1, 5)
        shape, side = _extent(pose)
        cells = (shape / side[:, None] * CELLS).astype(np.float32)
        count = len(pose)
        pyramid = Pyramid(image)
        weight, target = filter.reliability(cells, CELLS), filter.wanted(cells, CELLS)
        crops = [pyramid.crop(p[:2], d, p[4], WINDOW) for p, d in zip(pose, side, strict=True)]
        windows = np.array(crops, np.uint8).reshape(-1, WINDOW, WINDOW, 3)
        spectra = filter.transform(features.describe(windows))
        known, elsewhere = _looks(prompts, exemplars)
        before, stiff = None, np.zeros(count, np.float32)
        if len(known):
            before = np.zeros_like(spectra)
            before[known] = filter.learn(elsewhere, target[known], weight[known], None, stiff[known])
            stiff[known] = STIFFNESS
        filters = filter.learn(spectra, target, weight, before, stiff)
        first = filter.only_target(filters, cells)
        maps = filter.respond(filters, spectra)
        clear = clearness(maps, np.zeros((count, 2)))
        kept = np.array([anchor.take(pyramid, p[:2], d, p[4]) for p, d in zip(pose, shape, strict=True)], np.uint8)
        state = State(
            size=(width, height),
            grey=flow.shrink(image),
            keys=[p.key for p in prompts],
            oriented=np.array([isinstance(p.geometry, OrientedBox) for p in prompts], bool),
            shape=shape,
            centre=pose[:, :2].copy(),
            angle=pose[:, 4].copy(),
            velocity=np.zeros((count, 2)),
            side=side,
            scale=np.ones(count),
            filters=filters,
            first=first,
            weight=weight,
            target=target,
            level=np.repeat(np.maximum(clear, 1.0)[:, None], 2, 1),
            trust=np.ones(count),
            hidden=np.zeros(count, bool),
            missing=np.zeros(count, np.int64),
            anchors=np.repeat(kept.reshape(count, 1, anchor.SIZE, anchor.SIZE), 2, 1),
            held=np.ones(count),
            colours=colour.count(windows, (shape / side[:, None]).astype(np.float32)),
            usual=np.maximum(maps.max((1, 2)).astype(np.float64), 1e-6),
        )
        # The same copying as after `load`: equal memory layout, hence equal rounding.
        return CorrelationRun(State.from_tree(state.to_tree()))

    def load(self, state: bytes) -> CorrelationRun:
        """A run from `save`. Raises ValueError when the bytes are not one of this tracker's."""
        return CorrelationRun(State.from_tree(unpack(state)))


def _extent(pose: Double) -> tuple[Double, Double]:
    """Width and height (n, 2) of objects, and the side (n,) of their search windows, in pixels."""
    shape = np.maximum(pose[:, 2:4], 1.0)
    return shape, np.maximum(_CONTEXT * np.sqrt(shape.prod(1)), 1.8 * shape.max(1))


def _looks(prompts: Sequence[Prompt], exemplars: Sequence[Exemplar]) -> tuple[NDArray[np.intp], filter.Complex]:
    """Which objects (k,) are to be seen on an exemplar, and the spectra of their windows on the first such."""
    windows: dict[int, NDArray[np.uint8]] = {}
    number = {prompt.key: row for row, prompt in enumerate(prompts)}
    for exemplar in exemplars:
        height, width = exemplar.image.shape[:2]
        pyramid = Pyramid(exemplar.image)
        for prompt in exemplar.prompts:
            row = number.get(prompt.key)
            if row is None or row in windows:
                continue
            try:
                pose = np.array([_pose(prompt, width, height)], np.float64)
            except PromptInvalid:
                continue  # it is in the picture where tracking begins; elsewhere it need not be
            windows[row] = pyramid.crop(pose[0, :2], float(_extent(pose)[1][0]), pose[0, 4], WINDOW)
    described = features.describe(np.array(list(windows.values()), np.uint8).reshape(-1, WINDOW, WINDOW, 3))
    return np.array(list(windows), np.intp), filter.transform(described)


def _pose(prompt: Prompt, width: int, height: int) -> tuple[float, float, float, float, float]:
    """Centre, width, height, angle of a prompt."""
    geometry = prompt.geometry
    if isinstance(geometry, Box):
        x1, y1, x2, y2 = (float(v) for v in geometry.xyxy)
        pose = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.0)
        reach = (x1, y1, x2, y2)
    elif isinstance(geometry, OrientedBox):
        x, y, w, h = (float(v) for v in geometry.cxcywh)
        pose = (x, y, w, h, geometry.angle_rad)
        corners = geometry.corners()
        (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
        reach = (x1, y1, x2, y2)
    else:
        kind = type(geometry).__name__.lower()
        raise PromptInvalid(f"{prompt.key!r} is a {kind}; this tracker follows boxes. Draw a box around the object.")
    if pose[2] <= 0 or pose[3] <= 0:
        raise PromptInvalid(f"The box of {prompt.key!r} has no area. Draw it around the whole object.")
    if reach[2] <= 0 or reach[3] <= 0 or reach[0] >= width or reach[1] >= height:
        raise PromptInvalid(
            f"The box of {prompt.key!r} lies outside the picture. Draw it on the object, inside the picture."
        )
    return pose
