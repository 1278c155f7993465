"""Annotation files: the real SDK loads what is written, and what the SDK writes is read."""

import json
import uuid

import numpy as np
import pytest
import supervisely as sly
from hypothesis import given, settings
from hypothesis import strategies as st
from supervisely.geometry.graph import KeypointsTemplate
from supervisely.video_annotation.key_id_map import KeyIdMap

from common.errors import OutputUnusable, PromptInvalid
from common.geometry.annotation import AnnotationWriter, Figure, find_meta, read_annotation, read_meta
from common.geometry.meta import ObjectClass, ProjectMeta, Template, color_of
from common.geometry.shapes import Polygon, Polyline, SinglePoint, skeleton
from common.geometry.supervisely import GEOMETRY_TYPES
from common.geometry.types import Box, Mask, OrientedBox

from .strategies import HEIGHT, WIDTH, anywhere

RING = np.zeros((HEIGHT, WIDTH))
RING[4:20, 6:30] = 1
RING[8:12, 10:20] = 0
VALUES = {
    "rectangle": Box([3, 4, 20, 30]),
    "oriented_bbox": OrientedBox([30.5, 20.5, 11, 7], 0.4),
    "bitmap": Mask.from_array(RING),
    "polygon": Polygon([[1, 1], [30, 2], [20, 40]], ([[10, 5], [15, 5], [12, 9]],)),
    "point": SinglePoint([5, 6]),
    "line": Polyline([[1, 2], [9, 9], [30, 7]]),
    "graph": skeleton([("a", 1, 2, False), ("b", 30, 40, True)], [("a", "b")]),
}
META = ProjectMeta.of(
    [ObjectClass.of(kind, value) for kind, value in VALUES.items()],
    [{"name": "no-objects", "value_type": "none", "color": "#FF0000"}],
)
NO_OBJECTS = {"name": "no-objects", "frameRange": [3, 5], "key": uuid.uuid5(uuid.NAMESPACE_DNS, "t").hex}


def load(path, meta=META):
    project = sly.ProjectMeta.from_json(json.loads(json.dumps(meta.to_json())))
    data = json.loads(path.read_text())
    alone = sly.VideoAnnotation.from_json(data, project)
    assert len(alone.figures) == sum(len(frame["figures"]) for frame in data["frames"])
    return sly.VideoAnnotation.from_json(data, project, KeyIdMap())


def write_all(path, frames=range(6), **options):
    with AnnotationWriter(path, WIDTH, HEIGHT, META, name="clip.mp4", **options) as writer:
        for kind in VALUES:
            writer.add_object(kind, kind, [NO_OBJECTS])
        for index in frames:
            predicted = index > 0
            writer.write(
                index,
                [Figure(k, v, predicted, 0.87654 if predicted else None) for k, v in VALUES.items()],
            )
        writer.close(10)
    return writer


def test_the_sdk_loads_all_seven_types(tmp_path):
    path = tmp_path / "annotation.json"
    write_all(path, tags=[NO_OBJECTS])
    theirs = load(path)
    assert theirs.frames_count == 10 and theirs.img_size == (HEIGHT, WIDTH)
    assert len(theirs.frames) == 6 and len(theirs.figures) == 42 and len(theirs.tags) == 1
    assert {f.geometry.geometry_name() for f in theirs.figures} == set(GEOMETRY_TYPES)
    assert {str(f.status) for f in theirs.frames.get(0).figures} == {"manual"}
    assert {str(f.status) for f in theirs.frames.get(1).figures} == {"auto"}
    assert all([(t.name, t.frame_range) for t in o.tags] == [("no-objects", [3, 5])] for o in theirs.objects)
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "annotation.json"
    write_all(path)
    META.write(tmp_path / "meta.json")
    found = read_annotation(path)
    assert (found.width, found.height, found.frames, found.skipped) == (WIDTH, HEIGHT, 10, {})
    for index, figures in found.figures.items():
        assert [found.objects[f.key].class_name for f in figures] == list(VALUES)
        assert [f.geometry for f in figures] == list(VALUES.values())
        assert all(f.predicted == (index > 0) and f.score == (0.8765 if index else None) for f in figures)
    assert list(found.key_figures()) == [0] and len(found.key_figures()[0]) == 7
    thing = next(iter(found.objects.values()))
    assert thing.tag_ranges("no-objects", 10) == [(3, 5)] and thing.tag_ranges("x", 10) == []


def test_what_the_sdk_writes_is_read_and_comes_through_it_unchanged(tmp_path):
    path = tmp_path / "ours.json"
    write_all(path)
    keys = KeyIdMap()
    theirs = load(path).to_json(keys)
    ours, again = read_annotation(path, META), read_annotation(json.loads(json.dumps(theirs)), META)
    assert again.objects.keys() == ours.objects.keys()
    for index, figures in ours.figures.items():
        assert [(f.key, f.geometry, f.predicted) for f in again.figures[index]] == [
            (f.key, f.geometry, f.predicted) for f in figures
        ]


def test_the_servers_form_is_read():
    data = {
        "videoId": 7,
        "videoName": "a.mp4",
        "size": {"width": WIDTH, "height": HEIGHT},
        "framesCount": 3,
        "tags": [],
        "objects": [{"id": 11, "classId": 2, "classTitle": "car", "tags": [{"name": "no-objects"}]}],
        "frames": [
            {
                "index": 2,
                "figures": [
                    {
                        "id": 1,
                        "objectId": 11,
                        "geometryType": "rectangle",
                        "geometry": {"points": {"exterior": [[2, 3], [4, 5]], "interior": []}},
                        "trackId": "t",
                        "customData": None,
                    },
                    {"id": 2, "objectId": 11, "geometryType": "cuboid_2d", "geometry": {}},
                ],
            }
        ],
    }
    found = read_annotation(data)
    assert found.figures == {2: [Figure("11", Box([2, 3, 5, 6]), predicted=True, track_id="t")]}
    assert found.skipped == {"cuboid_2d": 1} and found.key_figures() == {}
    assert found.objects["11"].tag_ranges("no-objects", 3) == [(0, 2)]


@settings(max_examples=60, deadline=None)
@given(st.lists(anywhere, min_size=1, max_size=6))
def test_whatever_trackers_give_the_sdk_loads(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("any") / "annotation.json"
    classes = ProjectMeta.of(ObjectClass.of(f"class {n}", v) for n, v in enumerate(values))
    with AnnotationWriter(path, WIDTH, HEIGHT, classes) as writer:
        for n in range(len(values)):
            writer.add_object(str(n), f"class {n}")
        written = writer.write(4, [Figure(str(n), v, True, 0.5) for n, v in enumerate(values)])
    theirs = load(path, classes)
    assert len(theirs.figures) == written >= len(values) - writer.dropped
    assert len(read_annotation(path).figures.get(4, [])) == written


def test_equal_runs_give_equal_bytes_and_other_videos_other_keys(tmp_path):
    for name in ("a.json", "b.json"):
        write_all(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    data = json.loads((tmp_path / "a.json").read_text())
    keys = [f["key"] for frame in data["frames"] for f in frame["figures"]]
    assert len(set(keys)) == len(keys) == 42
    with AnnotationWriter(tmp_path / "c.json", WIDTH, HEIGHT, META, name="other.mp4") as writer:
        writer.add_object("point", "point")
        writer.write(0, [Figure("point", SinglePoint([1, 1]))])
    other = json.loads((tmp_path / "c.json").read_text())
    assert other["key"] != data["key"] and other["frames"][0]["figures"][0]["key"] not in keys


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 3, 6])
def test_a_writer_takes_up_where_another_stopped(tmp_path, finished, keep):
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"
    write_all(whole)
    write_all(resumed)
    if not finished:  # as after a kill: no end, a line cut in the middle
        lines = resumed.read_bytes().splitlines(keepends=True)
        torn = b"".join(lines[:7]) + b',{"index":6,"fig'
        resumed.with_name("resumed.json.part").write_bytes(torn)
        resumed.unlink()
    write_all(resumed, range(keep, 6), keep=keep)
    assert resumed.read_bytes() == whole.read_bytes()
    assert not resumed.with_name("resumed.json.part").exists()


def test_an_interrupted_run_keeps_what_it_has(tmp_path):
    path = tmp_path / "annotation.json"
    with pytest.raises(KeyboardInterrupt), AnnotationWriter(path, WIDTH, HEIGHT, META) as writer:
        writer.add_object("7", "point")
        writer.write(3, [Figure("7", VALUES["point"], True)])
        raise KeyboardInterrupt
    assert load(path).frames_count == 4 and len(load(path).figures) == 1


def test_backward_and_both_directions(tmp_path):
    path = tmp_path / "annotation.json"
    with AnnotationWriter(path, WIDTH, HEIGHT, META) as writer:
        writer.add_object("7", "point")
        for index in (5, 6, 7, 4, 3, 8):
            writer.write(index, [Figure("7", VALUES["point"])])
        for again in (3, 5, 8, -1):
            with pytest.raises(ValueError, match=f"frame {again} "):
                writer.write(again, [])
        assert writer.frames_written == 6
    assert sorted(load(path).frames.keys()) == [3, 4, 5, 6, 7, 8]


def test_parts_of_one_object_and_what_is_outside(tmp_path):
    path = tmp_path / "annotation.json"
    line = Polyline([[10, 10], [-10, 10], [-10, 20], [10, 20]])
    with AnnotationWriter(path, WIDTH, HEIGHT, META) as writer:
        writer.add_object("7", "line")
        assert writer.write(0, [Figure("7", line), Figure("7", Polyline([[90, 90], [99, 99]]))]) == 2
        assert writer.dropped == 1
    assert len(load(path).figures) == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("unknown", VALUES["point"], "not announced"),
        ("point", VALUES["line"], "cannot have this line"),
        ("graph", skeleton({"z": (1, 2)}), "cannot have this graph"),
        ("bitmap", Mask.from_array(np.ones((5, 5))), "5x5"),
    ],
)
def test_figures_that_do_not_belong(tmp_path, key, value, message):
    with AnnotationWriter(tmp_path / "a.json", WIDTH, HEIGHT, META) as writer:
        for kind in VALUES:
            writer.add_object(kind, kind)
        with pytest.raises(ValueError, match="class"):
            writer.add_object("x", "no such class")
        with pytest.raises(ValueError, match=message):
            writer.write(0, [Figure(key, value)])


def test_output_that_cannot_be_used(tmp_path):
    with pytest.raises(OutputUnusable, match="cannot be written"):
        AnnotationWriter(tmp_path / "no" / "a.json", WIDTH, HEIGHT, META)
    with pytest.raises(OutputUnusable, match="start anew"):
        AnnotationWriter(tmp_path / "a.json", WIDTH, HEIGHT, META, keep=0)
    write_all(tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(OutputUnusable, match="another job"):
        AnnotationWriter(tmp_path / "a.json", 99, HEIGHT, META, keep=0)
    with pytest.raises(OutputUnusable, match="holds 6 frames"):
        AnnotationWriter(tmp_path / "a.json", WIDTH, HEIGHT, META, name="clip.mp4", keep=7)
    assert (tmp_path / "a.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ("{}", "no Supervisely video annotation"),
        (
            '{"size":{"width":4,"height":4},"framesCount":1,"objects":[],"frames":[{"index":0,"figures":[{}]}]}',
            "no Super",
        ),
    ],
)
def test_files_that_are_no_annotation(tmp_path, text, message):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PromptInvalid, match=message):
        read_annotation(path)


def test_meta_is_what_the_sdk_reads_and_writes(tmp_path):
    template = KeypointsTemplate()
    template.add_point("head", 1, 2)
    template.add_point("hip", 30, 4)
    template.add_edge("head", "hip")
    classes = [
        sly.ObjClass("person", sly.GraphNodes, geometry_config=template),
        sly.ObjClass("car", sly.Rectangle, hotkey="c", description="four wheels"),
        sly.ObjClass("thing", sly.AnyGeometry),
    ]
    tags = sly.TagMetaCollection([sly.TagMeta("no-objects", sly.TagValueType.NONE)])
    theirs = sly.ProjectMeta(classes, tags, project_type="videos").to_json()
    meta = read_meta(json.loads(json.dumps(theirs)))
    assert meta.classes["person"].template == Template(("head", "hip"), (("head", "hip"),))
    assert sly.ProjectMeta.from_json(meta.to_json()).to_json() == theirs
    assert meta.classes["thing"].accepts(VALUES["line"]) and not meta.classes["car"].accepts(VALUES["line"])
    (tmp_path / "set" / "ann").mkdir(parents=True)
    meta.write(tmp_path / "meta.json")
    assert find_meta(tmp_path / "set" / "ann" / "a.json") == tmp_path / "meta.json"
    assert read_meta(tmp_path / "meta.json") == meta
    assert color_of("car") == color_of("car") != color_of("person")


@pytest.mark.parametrize("data", [{"classes": [{}]}, {"classes": [{"title": "a", "shape": "graph"}]}, {"classes": 3}])
def test_damaged_meta(data):
    with pytest.raises(PromptInvalid):
        read_meta(data)


def test_memory_does_not_grow_with_frames(tmp_path):
    import tracemalloc

    with AnnotationWriter(tmp_path / "a.json", WIDTH, HEIGHT, META) as writer:
        writer.add_object("7", "point")
        figures = [Figure("7", VALUES["point"], True, 0.5)]
        for index in range(100):
            writer.write(index, figures)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for index in range(100, 1100):
            writer.write(index, figures)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 10_000
