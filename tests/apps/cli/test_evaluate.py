"""The evaluate command end to end on files: scores, pairing of objects, and one clear line for every wrong file."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from apps.cli.evaluate import app
from common.errors import UserError
from common.evaluation.scenes import random_scene

SCENE = random_scene(4, 6, 96, 72, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A scene's truth in every format that the command reads."""
    root = tmp_path_factory.mktemp("truth")
    tracks, rectangles, points = [], [], ["object,point,frame,x,y,visible,score"]
    positions = np.zeros((2 * SCENE.points, SCENE.frames, 2), np.float32)
    visible = np.zeros((2 * SCENE.points, SCENE.frames), bool)
    for folder in ("masks/object-1", "masks/object-2", "index"):
        (root / folder).mkdir(parents=True)
    for frame in range(SCENE.frames):
        truth = SCENE.truth(frame)
        index = np.zeros((72, 96), np.uint8)
        for number, thing in enumerate(truth.objects):
            x1, y1, x2, y2 = thing.box.xyxy.tolist()
            tracks.append(f"{frame + 1},{number + 1},{x1},{y1},{x2 - x1},{y2 - y1},1,-1,-1")
            if number == 0:
                rectangles.append(f"{x1 + 1}\t{y1 + 1}\t{x2 - x1}\t{y2 - y1}")
            cv2.imwrite(str(root / f"masks/{thing.key}/{frame:05d}.png"), thing.mask.astype(np.uint8) * 255)
            index[thing.mask] = number + 1
            for point, ((x, y), seen) in enumerate(zip(thing.points.xy, thing.points.visible, strict=True)):
                points.append(f"{thing.key},{point},{frame},{x:.4f},{y:.4f},{int(seen)},1.0")
                positions[number * SCENE.points + point, frame] = x, y
                visible[number * SCENE.points + point, frame] = seen
        cv2.imwrite(str(root / f"index/{frame:05d}.png"), index)
    (root / "tracks.txt").write_text("\n".join(tracks))
    (root / "rect.txt").write_text("\n".join(rectangles))
    order = sorted(points[1:], key=lambda row: (row.split(",")[0], int(row.split(",")[1])))
    (root / "points.csv").write_text("\n".join([points[0], *order]))
    np.savez(root / "points.npz", tracks=positions, visible=visible, query_frame=visible.argmax(1))
    badja = {"frames": [0, 2, 5], "width": 96, "height": 72}
    badja |= {
        "xy": positions[:, badja["frames"]].swapaxes(0, 1).tolist(),
        "visible": visible[:, badja["frames"]].T.tolist(),
    }
    (root / "badja.json").write_text(json.dumps(badja))
    return root


def _run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_mot(files):
    scores = json.loads(_run("mot", files / "tracks.txt", files / "tracks.txt", "--json"))
    assert scores["rules"] == "plain"
    assert scores["sequences"]["tracks"]["HOTA"] == 1 and scores["sequences"]["tracks"]["TP"] == 12
    table = _run("mot", files / "tracks.txt", files / "tracks.txt")
    assert "HOTA" in table and "100.00" in table and "…" not in table


def test_mot_folders_are_combined(files, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        shutil.copy(files / "tracks.txt", tmp_path / "gt" / name / "gt" / "gt.txt")
    (tmp_path / "out").mkdir()
    shutil.copy(files / "tracks.txt", tmp_path / "out" / "a.txt")
    with pytest.raises(UserError, match=r"no b\.txt"):
        _run("mot", tmp_path / "gt", tmp_path / "out")
    (tmp_path / "out" / "b.txt").write_text("")
    scores = json.loads(_run("mot", tmp_path / "gt", tmp_path / "out", "--json"))["sequences"]
    assert scores["COMBINED"]["MOTA"] == pytest.approx(0.5)
    (tmp_path / "gt" / "a" / "seqinfo.ini").write_text("[Sequence]\nseqLength=3\n")
    with pytest.raises(UserError, match="ends at frame 3"):
        _run("mot", tmp_path / "gt", tmp_path / "out")


def test_boxes_by_identity_and_from_rectangles(files):
    named = json.loads(_run("boxes", files / "tracks.txt", files / "tracks.txt", "--json"))
    assert set(named["objects"]) == {"1", "2"} and named["mean"]["overlap"] == 1
    assert named["objects"]["1"]["frames"] == 6
    one = json.loads(_run("boxes", files / "rect.txt", files / "tracks.txt", "--id", "1", "--json", "--skip-first"))
    assert one["objects"]["1"]["overlap"] == 1 and one["objects"]["1"]["frames"] == 5
    other = json.loads(_run("boxes", files / "rect.txt", files / "tracks.txt", "--id", "2", "--json"))
    assert other["objects"]["1"]["overlap"] < 0.5
    shifted = json.loads(_run("boxes", files / "rect.txt", files / "tracks.txt", "--id", "1", "--zero-based", "--json"))
    assert 0.6 < shifted["objects"]["1"]["overlap"] < 1
    with pytest.raises(UserError, match="choose one with --id"):
        _run("boxes", files / "rect.txt", files / "tracks.txt")
    with pytest.raises(UserError, match="no object 7"):
        _run("boxes", files / "rect.txt", files / "tracks.txt", "--id", "7")


def test_masks_in_folders_and_by_number(files, tmp_path):
    for truth in (files, files / "masks", files / "index"):
        scores = json.loads(_run("masks", truth, files, "--json"))
        assert scores["mean"]["jf"] == 1 and scores["mean"]["frames"] == 10
    assert json.loads(_run("masks", files, files, "--skip", "none", "--json"))["mean"]["frames"] == 12
    shutil.copytree(files / "masks", tmp_path / "masks")
    (tmp_path / "masks" / "object-1" / "00003.png").unlink()
    scores = json.loads(_run("masks", files, tmp_path, "--json"))
    assert scores["objects"]["object-1"]["j"] == pytest.approx(4 / 5)
    cv2.imwrite(str(tmp_path / "masks" / "object-1" / "00003.png"), np.zeros((5, 5), np.uint8))
    with pytest.raises(UserError, match="Frame 3: masks of 96x72 and 5x5"):
        _run("masks", files, tmp_path)


@pytest.mark.parametrize(("truth", "raster"), [("points.csv", False), ("points.npz", False), ("badja.json", True)])
def test_points(files, truth, raster):
    scores = json.loads(_run("points", files / truth, files / "points.csv", "--json"))["scores"]
    assert ("256 raster" in scores) is raster
    assert scores["own pixels"]["aj"] == scores["own pixels"]["oa"] == 1
    assert scores["own pixels"]["mean_error"] < 1e-3
    sized = json.loads(_run("points", files / truth, files / "points.csv", "--size", "96x72", "--json"))["scores"]
    assert sized["256 raster"]["delta_avg"] == 1
    with pytest.raises(UserError, match="WIDTHxHEIGHT"):
        _run("points", files / truth, files / "points.csv", "--size", "96,72")


def test_lost_points_are_written_without_position(files, tmp_path):
    text = (files / "points.csv").read_text().splitlines()
    text[3] = "object-1,0,2,,,0,0.0"
    (tmp_path / "points.csv").write_text("\n".join(text))
    scores = json.loads(_run("points", files / "points.csv", tmp_path / "points.csv", "--json"))["scores"]
    assert 0.9 < scores["own pixels"]["aj"] < 1 and scores["own pixels"]["missing"] > 0


_HEADER = b"object,point,frame,x,y,visible,score\n"


@pytest.mark.parametrize(
    ("command", "name", "content", "message"),
    [
        ("boxes", "gt.txt", b"", "is empty"),
        ("boxes", "gt.txt", b"1,2,3,4\n1,2,x,4\n", "line 2: expected x,y,width,height"),
        ("boxes", "gt.txt", b"1,2,3\n", "line 1: 3 columns"),
        ("boxes", "gt.txt", b"1,1,2,3,4,5\n1,1,2,3,4,5\n", "more than one box in frame 1"),
        ("boxes", "gt.txt", b"\x80\x81\xff", "not a text file"),
        ("mot", "gt.txt", b"hello\n", "line 1: 1 columns"),
        ("points", "gt.csv", b"a,b\n", "line 1: expected the header"),
        ("points", "gt.csv", _HEADER + b"o,0,zero,1,1,1,1\n", "line 2: not a point"),
        ("points", "gt.csv", _HEADER + b"o,0,0,1,1,1,1\no,0,0,1,1,1,1\n", "line 3: point 0 of o occurs twice"),
        ("points", "gt.csv", _HEADER + b"o,0,-1,1,1,1,1\n", "frames count from 0"),
        ("points", "gt.csv", _HEADER + b"o,0,9999999999,1,1,1,1\n", "too far"),
        ("points", "gt.npz", b"PK\x03\x04rest", "not a whole .npz"),
        ("points", "gt.npz", b"nothing", "not a whole .npz"),
        ("points", "gt.json", b"{", "expected frames"),
        ("points", "gt.json", b'{"frames": [0], "xy": [[1, 2]], "visible": [[true]]}', "do not fit"),
        ("points", "gt.pdf", b"", "are read from"),
        ("points", "gt.csv", _HEADER + b"o,0,0,1,1,1,1\n", "they cannot be paired"),
    ],
)
def test_malformed_truth(files, tmp_path, command, name, content, message):
    (tmp_path / name).write_bytes(content)
    result = files / ("points.csv" if command == "points" else "tracks.txt")
    with pytest.raises(UserError, match=message) as caught:
        _run(command, tmp_path / name, result)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["mot", "boxes", "masks", "points"])
def test_missing_files(tmp_path, command):
    with pytest.raises(UserError, match=r"does not exist|not a folder"):
        _run(command, tmp_path / "no.csv", tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("00000.png", b"not a picture", "cannot be read as a picture"),
        ("first.png", b"", "named by its frame number"),
        ("notes.txt", b"", "holds no PNG files"),
    ],
)
def test_malformed_masks(files, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        _run("masks", tmp_path, files)


def test_palette_masks_number_their_objects_and_255_does_not_count(files, tmp_path):
    """DAVIS-2017 files: palette pictures whose value is the object, 255 for pixels that do not count."""
    for frame in range(SCENE.frames):
        index = cv2.imread(str(files / f"index/{frame:05d}.png"), cv2.IMREAD_GRAYSCALE)
        index[0, 0] = 255
        picture = Image.fromarray(index, "L").convert("P")
        picture.putdata(index.ravel().tolist())
        picture.save(tmp_path / f"{frame:05d}.png")
    scores = json.loads(_run("masks", tmp_path, files, "--json"))
    assert set(scores["objects"]) == {"1", "2"} and scores["mean"]["jf"] == 1
