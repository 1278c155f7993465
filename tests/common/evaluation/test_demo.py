"""The demonstration clip: each object can be labelled in frame 0 and stays in the picture."""

from __future__ import annotations

import numpy as np

from common.evaluation.demo import GEOMETRY, demo_scene


def test_the_demonstration_can_be_labelled():
    scene = demo_scene()
    assert (scene.width, scene.height, scene.frames) == (640, 360, 150)
    first = scene.truth(0)
    assert {o.key for o in first.objects} == set(GEOMETRY)
    for thing in first.objects:
        assert thing.visible_fraction > 0.97, thing.key
        assert thing.skeleton.visible.all() and thing.polygon.visible.all(), thing.key
    assert first["starfish"].skeleton.edges and len(first["kite"].polygon.xy) == 4


def test_objects_stay_in_the_picture_and_some_are_hidden_in_part():
    scene = demo_scene()
    fractions = np.array([[o.visible_fraction for o in scene.truth(f).objects] for f in range(0, 150, 15)])
    assert fractions.min() > 0.2 and (fractions.min(0) < 0.8).sum() >= 2


def test_another_size():
    scene = demo_scene(frames=5, width=320, height=180)
    assert scene.render(4).shape == (180, 320, 3)
    assert min(o.visible_fraction for o in scene.truth(0).objects) > 0.97
