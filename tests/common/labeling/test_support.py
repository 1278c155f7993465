"""From a person's annotation to examples."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import PromptInvalid
from common.geometry.annotation import AnnotatedObject, Annotation, Figure
from common.geometry.shapes import Polygon, SinglePoint
from common.geometry.types import Box, Mask
from common.labeling.support import Labelled, SupportSet, from_annotation, from_pictures
from tests.common.labeling.toys import ToyVideo

BOX = Box(np.array([10, 10, 40, 40]))
POLYGON = Polygon(np.array([[60, 10], [90, 10], [75, 40]], np.float32))


def annotation(figures, width=256, height=160) -> Annotation:
    objects = {"a": AnnotatedObject("a", "disc"), "b": AnnotatedObject("b", "crate")}
    return Annotation(width, height, 24, objects, figures)


def test_frames_that_a_person_drew_on_are_examples():
    video = ToyVideo()
    given = annotation(
        {0: [Figure("a", BOX), Figure("b", POLYGON)], 3: [Figure("a", BOX, predicted=True)], 7: [Figure("b", BOX)]}
    )
    support = from_annotation(given, video)
    assert [example.frame for example in support.examples] == [0, 7]
    assert support.classes == ("disc", "crate") and support.count == 3
    picture = support.picture(0)
    np.testing.assert_allclose(picture.boxes[0], BOX.xyxy)
    np.testing.assert_allclose(picture.boxes[1], [60, 10, 90, 40], atol=1)
    assert picture.masks[0] is None and picture.masks[1] is not None and picture.masks[1].area > 300
    chosen = from_annotation(given, video, frames=[7])
    assert [example.frame for example in chosen.examples] == [7]
    assert set(support.frames(video)) == {0, 7} and support.frames(ToyVideo()) == {}


def test_pictures_are_read_when_they_are_needed():
    video = ToyVideo()
    from_annotation(annotation({0: [Figure("a", BOX)]}), video)
    assert video.reads == 0


def test_held_out_objects_are_ignored_places():
    support = from_annotation(annotation({0: [Figure("a", BOX), Figure("b", POLYGON)]}), ToyVideo())
    picture = support.picture(0, held_out=[0])
    assert len(picture.boxes) == 1 and picture.classes.tolist() == [1]
    np.testing.assert_allclose(picture.ignore, BOX.xyxy[None])


@pytest.mark.parametrize(
    ("given", "frames", "says"),
    [
        (annotation({}), None, "No object is labelled"),
        (annotation({0: [Figure("a", SinglePoint(np.array([3, 3], np.float32)))]}), None, "No object is labelled"),
        (annotation({0: [Figure("a", BOX)]}, width=99), None, "99 x 160 pixels"),
        (annotation({0: [Figure("a", BOX)]}), [24], "Frame 24 of the examples does not exist"),
        (annotation({0: [Figure("a", BOX)]}), [5], "No object is labelled"),
    ],
)
def test_what_cannot_be_learned_from_is_told(given, frames, says):
    with pytest.raises(PromptInvalid, match=says):
        from_annotation(given, ToyVideo(), frames)


def test_corrections_replace_the_frame_and_add_to_the_rest():
    video = ToyVideo()
    first = video.support((0, 4))
    moved = Labelled("x", "barrel", BOX)
    more = SupportSet((first.examples[1].__class__(lambda: video.read(4), (moved,), 4, video),), ("barrel",))
    both = first.joined(more)
    assert [(e.frame, len(e.labels)) for e in both.examples] == [(0, len(first.examples[0].labels)), (4, 1)]
    assert both.classes == ("disc", "crate", "barrel")


def test_areas_are_wanted_when_most_examples_are_areas():
    mask = Mask.from_array(np.ones((20, 20), bool))

    def of(*values) -> SupportSet:
        return from_pictures([(lambda: np.zeros((20, 20, 3), np.uint8), [Labelled("a", "x", v) for v in values])])

    assert of(mask, POLYGON, BOX).outlined
    assert not of(mask, BOX, BOX).outlined
