"""Random values of all seven geometry types, on whole pixels or not."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.geometry.shapes import Polygon, Polyline, SinglePoint, Skeleton
from common.geometry.types import Box, Mask, OrientedBox

WIDTH, HEIGHT = 64, 48


def ring(number, least):
    return st.lists(st.tuples(number, number), min_size=least, max_size=7).map(np.array)


def boxes(number, size):
    return st.tuples(number, number, size, size).map(lambda v: Box(np.array([v[0], v[1], v[0] + v[2], v[1] + v[3]])))


def oriented_boxes(number, size):
    return st.tuples(boxes(number, size), st.floats(-7, 7)).map(
        lambda v: OrientedBox(
            np.concatenate(((v[0].xyxy[:2] + v[0].xyxy[2:]) / 2, v[0].xyxy[2:] - v[0].xyxy[:2])), v[1]
        )
    )


def skeletons(number):
    nodes = st.lists(st.tuples(number, number, st.booleans()), min_size=1, max_size=6)
    return nodes.map(
        lambda rows: Skeleton(
            tuple(f"node-{i}" for i in range(len(rows))),
            np.array([r[:2] for r in rows]),
            np.array([r[2] for r in rows]),
            tuple((i, i + 1) for i in range(len(rows) - 1)),
        )
    )


def shapes(number):
    return st.one_of(
        st.builds(Polygon, ring(number, 3), st.lists(ring(number, 3), max_size=2).map(tuple)),
        ring(number, 2).map(Polyline),
        st.tuples(number, number).map(lambda v: SinglePoint(np.array(v))),
        skeletons(number),
    )


masks = arrays(bool, (HEIGHT, WIDTH), elements=st.booleans(), fill=st.just(False)).map(Mask.from_array)
filled_masks = masks.filter(lambda m: m.area > 0)


def values(number, size):
    return st.one_of(boxes(number, size), oriented_boxes(number, size), shapes(number), filled_masks)


whole = values(st.integers(-20, 90), st.integers(1, 60))
anywhere = values(st.floats(-20, 90, width=32), st.floats(1, 60, width=32))
