"""`track` as a person uses it: a real video file in, files out that the SDK and others read."""

from __future__ import annotations

import csv
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervisely as sly

from apps.cli.job import JOURNAL, TrackJob, choose_trackers, run_job
from apps.cli.progress import Reporter
from apps.cli.prompts import PromptFlags, gather
from common.geometry.measures import box_iou
from common.tracking.journal import Journal
from common.tracking.snapshot import pack
from common.video.reader import open_source
from tests.apps.cli.conftest import FRAMES, ROOT, Clip, Command, arguments, outputs


@pytest.fixture(scope="module")
def tracked(clip: Clip, mask_file: Path, process: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One job with a box, a mask and two points, from frame 0 to the end."""
    out = tmp_path_factory.mktemp("tracked")
    points = clip.scene.truth(0)[clip.key].points
    assert points is not None
    flags = [part for x, y in points.xy[points.visible][:2] for part in ("--point", f"{x:.1f},{y:.1f}")]
    done = process("track", clip.video, "--box", clip.box(), "--mask", mask_file, *flags, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def mot(path: Path) -> dict[int, dict[int, list[float]]]:
    """object -> frame (from 0) -> x1, y1, x2, y2."""
    table: dict[int, dict[int, list[float]]] = {}
    for line in path.read_text().splitlines():
        frame, number, x, y, w, h, *rest = map(float, line.split(","))
        assert len(rest) == 3
        assert 0 <= rest[0] <= 1
        table.setdefault(int(number), {})[int(frame) - 1] = [x, y, x + w, y + h]
    return table


def test_tracks_follow_the_object(tracked: Path, clip: Clip):
    rows = mot(tracked / "tracks.txt")
    assert sorted(rows) == [1, 2, 3, 4]
    assert rows[1].keys() == set(range(FRAMES))
    truth = [clip.scene.truth(frame)[clip.key] for frame in range(FRAMES)]
    seen = [t.frame for t in map(clip.scene.truth, range(FRAMES)) if t[clip.key].visible_fraction > 0.9]
    for number in (1, 2):
        overlaps = [box_iou(rows[number][f], truth[f].box.xyxy)[0, 0] for f in seen if f in rows[number]]
        assert np.mean(overlaps) > 0.6


def test_masks_and_points_have_files_of_their_own(tracked: Path, clip: Clip):
    pictures = sorted((tracked / "masks" / "2").glob("*.png"))
    assert [p.name for p in pictures][:3] == ["00000.png", "00001.png", "00002.png"]
    first = cv2.imread(str(pictures[0]), cv2.IMREAD_UNCHANGED)
    assert first.shape == (240, 320)
    assert set(np.unique(first)) == {0, 255}
    np.testing.assert_array_equal(first > 0, clip.scene.truth(0)[clip.key].mask)
    with (tracked / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["object", "point", "frame", "x", "y", "visible", "score"]
    assert {row["object"] for row in rows} == {"3", "4"}
    assert {int(row["frame"]) for row in rows if row["object"] == "3"} == set(range(FRAMES))


def test_the_sdk_reads_the_annotation(tracked: Path):
    meta = sly.ProjectMeta.from_json(json.loads((tracked / "meta.json").read_text()))
    annotation = sly.VideoAnnotation.from_json(json.loads((tracked / "annotation.json").read_text()), meta)
    assert annotation.frames_count == FRAMES
    assert len(annotation.objects) == 4
    assert {figure.geometry.geometry_name() for figure in annotation.figures} == {"rectangle", "bitmap", "point"}


def test_the_summary_says_how_sure_every_frame_is(tracked: Path):
    summary = json.loads((tracked / "summary.json").read_text())
    assert summary["frames"] == FRAMES
    assert summary["complete"] is True
    assert list(summary["confidence"]) == [str(frame) for frame in range(FRAMES)]
    assert summary["confidence"]["0"] == 1.0
    assert summary["frames_per_second"] > 0
    assert summary["peak_memory_mb"] > 10
    assert {o["object"] for o in summary["objects"]} == {"1", "2", "3", "4"}


def test_the_overlay_shows_every_frame(tracked: Path):
    info = open_source(tracked / "overlay.mp4").info
    assert (info.frames, info.width, info.height) == (FRAMES, 320, 240)


def test_nothing_unfinished_is_left(tracked: Path):
    known = {"annotation.json", "meta.json", "tracks.txt", "points.csv", "summary.json", "overlay.mp4", "masks"}
    assert {p.name for p in tracked.iterdir()} == known


def test_backward_and_both(clip: Clip, command: Command, tmp_path: Path):
    frame = FRAMES // 2
    box = f"{clip.box(frame)}@{frame}"
    for direction, expected in {"backward": range(frame + 1), "both": range(FRAMES)}.items():
        done = command(
            "track", clip.video, "--box", box, "--direction", direction, "--no-overlay", "--out", tmp_path / direction
        )
        assert done.returncode == 0, done.stderr
        assert mot(tmp_path / direction / "tracks.txt")[1].keys() == set(expected)


def test_an_annotation_with_two_key_figures_is_tracked_from_both_sides(clip: Clip, command: Command, tmp_path: Path):
    prompts = tmp_path / "prompts"
    assert command("track", clip.video, "--box", clip.box(), "--frames", 1, "--out", prompts).returncode == 0
    annotation = json.loads((prompts / "annotation.json").read_text())
    (drawn,) = annotation["frames"][0]["figures"]
    last = clip.scene.truth(FRAMES - 1)[clip.key].box.xyxy.round().astype(int).tolist()
    points = {"exterior": [last[:2], [last[2] - 1, last[3] - 1]], "interior": []}
    again = drawn | {"key": "0" * 31 + "1", "geometry": {"points": points}, "meta": {"frame": FRAMES - 1}}
    annotation["frames"][1:] = [{"index": FRAMES - 1, "figures": [again]}]
    annotation["framesCount"] = FRAMES
    (prompts / "annotation.json").write_text(json.dumps(annotation))
    done = command("track", clip.video, "--prompts", prompts / "annotation.json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = mot(tmp_path / "out" / "tracks.txt")[1]
    assert rows.keys() == set(range(FRAMES))
    seen = [f for f in range(FRAMES) if clip.scene.truth(f)[clip.key].visible_fraction > 0.9]
    overlaps = [box_iou(rows[f], clip.scene.truth(f)[clip.key].box.xyxy)[0, 0] for f in seen]
    assert np.mean(overlaps) > 0.7


def annotation_of(rings: dict[int, list[list[int]]]) -> dict[str, Any]:
    """A Supervisely annotation of one polygon: frame -> vertices."""
    frames = [
        {
            "index": frame,
            "figures": [
                {
                    "key": f"{frame:032x}",
                    "objectKey": "a" * 32,
                    "geometryType": "polygon",
                    "geometry": {"points": {"exterior": ring, "interior": []}},
                }
            ],
        }
        for frame, ring in rings.items()
    ]
    objects = [{"key": "a" * 32, "classTitle": "leaf", "tags": []}]
    return {
        "size": {"height": 240, "width": 320},
        "framesCount": FRAMES,
        "objects": objects,
        "frames": frames,
        "tags": [],
    }


def test_a_polygon_may_have_other_vertices_on_the_next_key_figure(clip: Clip, command: Command, tmp_path: Path):
    few, many = [[40, 40], [90, 40], [90, 90]], [[40, 40], [90, 40], [95, 60], [90, 90], [40, 90]]
    prompts = tmp_path / "prompts.json"
    annotation = annotation_of({0: few, 7: many})
    annotation["frames"][0]["figures"].append({"objectKey": "a" * 32, "geometryType": "cuboid", "geometry": {}})
    prompts.write_text(json.dumps(annotation))
    done = command("track", clip.video, "--prompts", prompts, "--frames", 2, "--no-overlay", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    frames = json.loads((tmp_path / "out" / "annotation.json").read_text())["frames"]
    assert "cuboid cannot be tracked; left out: 1" in done.stderr
    vertices = {f["index"]: len(g["geometry"]["points"]["exterior"]) for f in frames for g in f["figures"]}
    assert vertices == {**dict.fromkeys(range(4), 3), **dict.fromkeys(range(4, 10), 5)}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["nowhere.mp4", "--box", "1,1,9,9"], "nowhere.mp4"),
        (["{text}", "--box", "1,1,9,9"], "text.mp4"),
        (["{empty}", "--box", "1,1,9,9"], "empty.mp4"),
        (["{folder}", "--box", "1,1,9,9"], "folder"),
        (["{clip}"], "--box"),
        (["{clip}", "--box", "400,10,500,90"], "outside"),
        (["{clip}", "--box", "10,10,5,5"], "x1 < x2"),
        (["{clip}", "--box", "10,10,5"], "x1,y1,x2,y2"),
        (["{clip}", "--box", "a,b,c,d"], "x1,y1,x2,y2"),
        (["{clip}", "--box", "nan,1,2,3"], "x1,y1,x2,y2"),
        (["{clip}", "--box", "1,1,9,9@999"], "999"),
        (["{clip}", "--box", "1,1,9,9@-1"], "number of a frame"),
        (["{clip}", "--box", "1,1,9,9@1.5"], "number of a frame"),
        (["{clip}", "--box", "1,1,9,9@"], "number of a frame"),
        (["{clip}", "--box", "@3"], "nothing before the @"),
        (["{clip}", "--box", "-9,-9,0,0"], "outside"),
        (["{clip}", "--box", "0,0,1e30,1e30"], "x1,y1,x2,y2"),
        (["{clip}", "--point", "1000,1000"], "outside"),
        (["{clip}", "--mask", "{nothing}"], "empty"),
        (["{clip}", "--mask", "{small}"], "320 x 240"),
        (["{clip}", "--mask", "none.png"], "none.png"),
        (["{clip}", "--mask", "{text}"], "picture"),
        (["{clip}", "--prompts", "{text}"], "text.mp4"),
        (["{clip}", "--prompts", "none.json"], "none.json"),
        (["{clip}", "--box", "1,1,9,9", "--tracker", "magic"], "magic"),
        (["{clip}", "--box", "1,1,9,9", "--tracker", "flow"], "mask"),
        (["{clip}", "--box", "1,1,9,9", "--device", "cuda"], "cpu"),
        (["{clip}", "--box", "1,1,9,9", "--weights", "w.pt"], "weights"),
        (["{clip}", "--box", "1,1,9,9", "--frames", "0"], "greater than or equal to 1"),
        (["{clip}", "--box", "1,1,9,9", "--direction", "up"], "--direction"),
        (["{clip}", "--box", "1,1,9,9", "--out", "{text}/out"], "text.mp4"),
        (["{clip}", "--box", "1,1,9,9", "--out", "{text}"], "is a file"),
        (["{taken}/overlay.mp4", "--box", "1,1,9,9", "--out", "{taken}"], "would replace overlay.mp4"),
        (["{clip}", "--prompts", "{taken}/annotation.json", "--out", "{taken}"], "would replace annotation.json"),
        (["{clip}", "--mask", "{taken}/masks/1/00000.png", "--out", "{taken}"], "would replace 00000.png"),
        (["{clip}", "--box", "1,1,9,9", "--out", "{taken}"], "no results of a run before"),
    ],
)
def test_wrong_input_is_told_in_one_line(flags, says, clip: Clip, tmp_path: Path, monkeypatch, capsys):
    from apps.__main__ import main

    for name, content in {"text.mp4": b"hello " * 50, "empty.mp4": b""}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    cv2.imwrite(str(tmp_path / "nothing.png"), np.zeros((240, 320), np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.full((10, 10), 255, np.uint8))
    taken = tmp_path / "taken"
    (taken / "masks" / "1").mkdir(parents=True)
    cv2.imwrite(str(taken / "masks" / "1" / "00000.png"), np.full((240, 320), 255, np.uint8))
    shutil.copy(clip.video, taken / "overlay.mp4")
    (taken / "annotation.json").write_text(json.dumps(annotation_of({0: [[10, 10], [90, 10], [90, 90]]})))
    before = {path: path.read_bytes() for path in taken.rglob("*.*")}
    places = {
        "taken": taken,
        "clip": clip.video, "text": tmp_path / "text.mp4", "empty": tmp_path / "empty.mp4", "folder": tmp_path / "folder",
        "nothing": tmp_path / "nothing.png", "small": tmp_path / "small.png",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code = main(["track", *(flag.format(**places) for flag in flags), *([] if "--out" in flags else ["--out", "out"])])
    told = capsys.readouterr().err
    assert code == 2, told
    assert says in told
    assert len(told.strip().splitlines()) == 1
    assert "Traceback" not in told
    assert before == {path: path.read_bytes() for path in taken.rglob("*.*")}


def test_a_truncated_file_gives_the_frames_that_exist_and_a_warning(clip: Clip, command: Command, tmp_path: Path):
    whole = clip.video.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole[: len(whole) * 6 // 10])
    done = command("track", broken, "--box", clip.box(), "--no-overlay", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "Warning" in done.stderr
    assert 1 < len(mot(tmp_path / "out" / "tracks.txt")[1]) < FRAMES


def test_a_broken_image_in_the_middle_costs_only_its_own_frame(clip: Clip, command: Command, tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(9):
        cv2.imwrite(str(folder / f"{number}.png"), open_source(clip.video).read(number)[..., ::-1])
    (folder / "4.png").write_bytes(b"not a picture")
    late = f"{clip.box(6)}@6"
    done = command("track", folder, "--box", clip.box(), "--box", late, "--out", folder)  # results beside the images
    assert done.returncode == 0, done.stderr
    assert "frame 4" in done.stderr
    assert "frame 4" in json.loads((folder / "summary.json").read_text())["damage"]
    rows = mot(folder / "tracks.txt")
    assert rows[1].keys() == set(range(9)) - {4}
    assert rows[2].keys() == {6, 7, 8}
    assert open_source(folder / "overlay.mp4").info.frames == 9


def test_a_label_on_the_last_frame_is_the_whole_result(clip: Clip, command: Command, tmp_path: Path):
    box = clip.box(FRAMES - 1).replace(",", " , ") + f" @ {FRAMES - 1}"  # spaces are no mistake
    done = command("track", clip.video, "--box", box, "--quiet", "--out", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mot(tmp_path / "tracks.txt")[1].keys() == {FRAMES - 1}


def test_results_of_the_job_before_do_not_stay(clip: Clip, mask_file: Path, command: Command, tmp_path: Path):
    assert command("track", clip.video, "--mask", mask_file, "--frames", 1, "--out", tmp_path).returncode == 0
    assert {"masks", "overlay.mp4"} < {p.name for p in tmp_path.iterdir()}
    done = command("track", clip.video, "--box", clip.box(), "--frames", 1, "--no-overlay", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    left = {p.name for p in tmp_path.rglob("*")}
    assert left == {"annotation.json", "meta.json", "tracks.txt", "summary.json"}


def test_a_job_whose_memory_cannot_be_read_any_more_begins_anew(clip: Clip, tmp_path: Path, capsys):
    source = open_source(clip.video)
    drawn = gather(None, PromptFlags([clip.box()]), source.info)
    job = TrackJob(clip.video, source, drawn, choose_trackers(drawn.key_figures, None), frames=5, overlay=False)
    for kept in (b"of another time", pack({"next": 3}), pack({"next": 3, "active": [[0, b"?"]]})):
        with Journal(tmp_path / JOURNAL, job.fingerprint(), drawn.key_figures) as journal:
            journal.sink(1).save(lambda kept=kept: kept)
        with Reporter(quiet=True) as reporter:
            assert run_job(job, tmp_path, reporter) == 0
        assert "begins anew" in capsys.readouterr().err
        assert mot(tmp_path / "tracks.txt")[1].keys() == set(range(6))


def test_a_full_disk_is_told_in_one_line(clip: Clip, mask_file: Path, tmp_path: Path):
    out = tmp_path / "out"
    job = arguments(["track", clip.video, "--mask", mask_file, "--quiet", "--out", out])
    full = ["sh", "-c", 'ulimit -f 8 && exec "$@"', "sh", *job]  # no file may grow beyond a few kilobytes
    done = subprocess.run(full, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert f"cannot be written to {out}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_ctrl_c_while_the_program_loads_is_no_accident(clip: Clip, tmp_path: Path):
    code = (
        "import os, signal, sys; from apps.__main__ import main; signal.setitimer(signal.ITIMER_REAL, 0.05);"
        "signal.signal(signal.SIGALRM, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    job = [sys.executable, "-c", code, "track", clip.video, "--box", clip.box(), "--out", tmp_path / "out"]
    done = subprocess.run(job, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 130
    assert done.stderr.startswith("Interrupted.")
    assert not (tmp_path / "out").exists()


def test_killed_at_random_moments_and_run_again_gives_the_same_files(
    tracked: Path, clip: Clip, mask_file: Path, tmp_path: Path
):
    points = clip.scene.truth(0)[clip.key].points
    flags = [part for x, y in points.xy[points.visible][:2] for part in ("--point", f"{x:.1f},{y:.1f}")]
    job = ["track", clip.video, "--box", clip.box(), "--mask", mask_file, *flags, "--out", tmp_path]
    dice, kills = random.Random(5), 0
    for _ in range(60):
        process = subprocess.Popen(arguments(job), cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if kills < 3:
            _wait_for_rows(tmp_path, process)
            time.sleep(dice.uniform(0, 0.8))
            process.kill()
        told = process.communicate(timeout=300)[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, told
        kills += 1
    assert kills
    assert outputs(tmp_path) == outputs(tracked)


def _wait_for_rows(out: Path, process: subprocess.Popen[str]) -> None:
    """Until the job has begun to keep results, or has ended."""
    while process.poll() is None and not (out / "unfinished.sqlite-wal").exists():
        time.sleep(0.02)


LONG = 100


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_resumes(tracked: Path, clip: Clip, tmp_path: Path):
    folder = tmp_path / "long"
    folder.mkdir()
    pictures = list(open_source(clip.video).stream(0, FRAMES))
    there_and_back = itertools.cycle([*pictures, *pictures[-2:0:-1]])
    for number, picture in enumerate(itertools.islice(there_and_back, LONG)):  # long enough to be interrupted
        cv2.imwrite(str(folder / f"{number:04d}.jpg"), picture[..., ::-1])
    out = tmp_path / "out"
    job = ["track", folder, "--box", clip.box(), "--no-overlay", "--out", out]
    process = subprocess.Popen(arguments(job), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    _wait_for_rows(out, process)
    time.sleep(0.4)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert time.monotonic() - asked < 20
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is False
    done = len(mot(out / "tracks.txt")[1])
    assert 0 < done < LONG
    finished = (out / "tracks.txt").read_text()
    again = subprocess.run(arguments(job), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert "Continuing" in again.stderr
    whole = (out / "tracks.txt").read_text()
    assert whole.startswith(finished)
    assert len(mot(out / "tracks.txt")[1]) == LONG
