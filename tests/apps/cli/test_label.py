"""`label`: one labelled frame in, a labelled video out; killed anywhere, the same command ends in the same result."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import supervisely as sly

from apps.__main__ import main
from common.evaluation import mot_text
from common.geometry.annotation import AnnotationWriter, Figure
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Polygon, Value
from common.geometry.types import Box
from common.video.writer import VideoWriter
from tests.apps.cli.conftest import ROOT, Command, arguments
from tests.common.labeling.toys import CLASSES, ToyVideo

QUICK = ("--candidate", "exemplar", "--every", "2", "--quiet")


def write_clip(path: Path, seed: int = 1, frames: int = 24) -> ToyVideo:
    video = ToyVideo(frames, seed=seed)
    with VideoWriter(path, video.info.width, video.info.height, video.info.fps) as writer:
        for image in video.stream(0, frames):
            writer.write(image)
    return video


def write_labels(folder: Path, video: ToyVideo, frames: tuple[int, ...] = (0,), outlined: bool = False) -> Path:
    folder.mkdir(exist_ok=True)

    def value(box: np.ndarray) -> Value:
        x1, y1, x2, y2 = box
        return Polygon(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)) if outlined else Box(box)

    sample = value(np.array([0, 0, 1, 1], np.float32))
    meta = ProjectMeta.of(ObjectClass.of(name, sample) for name in CLASSES)
    meta.write(folder / "meta.json")
    drawn = {frame: [(thing, value(box)) for thing, box in video.boxes(frame)] for frame in frames}
    path = folder / "annotation.json"
    with AnnotationWriter(path, video.info.width, video.info.height, meta, name="labels") as writer:
        for thing in dict.fromkeys(thing for figures in drawn.values() for thing, _ in figures):
            writer.add_object(thing.key, CLASSES[thing.kind])
        for frame, figures in drawn.items():
            writer.write(frame, [Figure(thing.key, made) for thing, made in figures])
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("label")
    video = write_clip(folder / "toy.mp4")
    return folder / "toy.mp4", write_labels(folder / "labels", video)


@pytest.fixture(scope="module")
def out(command: Command, clip: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("out") / "results"
    done = command("label", clip[0], "--examples", clip[1], "--out", made, *QUICK)
    assert done.returncode == 0, done.stderr
    return made


def test_the_files_of_every_job_and_the_scores(out: Path) -> None:
    names = {path.name for path in out.iterdir()}
    assert names == {"annotation.json", "meta.json", "tracks.txt", "summary.json", "overlay.mp4", "scores.png"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["chosen"]["candidates"] == ["exemplar"] and summary["chosen"]["every"] == 2
    assert [score["name"] for score in summary["scores"]] == ["exemplar"]
    assert summary["scores"][0]["f1"] > 0.8 and "labelled objects" in summary["scores"][0]["why"]
    assert all({"frame", "keys", "gain", "why"} <= item.keys() for item in summary["review_queue"])


def test_new_things_are_found_and_the_person_s_go_on(out: Path) -> None:
    rows = mot_text.read(out / "tracks.txt")
    assert len(np.unique(rows.id)) == 5
    assert np.unique(rows.frame).tolist() == list(range(1, 25))
    meta = sly.ProjectMeta.from_json(json.loads((out / "meta.json").read_text()))
    read = sly.VideoAnnotation.from_json(json.loads((out / "annotation.json").read_text()), meta)
    assert sorted(item.obj_class.name for item in read.objects) == ["crate"] * 2 + ["disc"] * 3


def test_examples_are_given_back_untouched(out: Path, clip: tuple[Path, Path]) -> None:
    def drawn(path: Path) -> list[object]:
        frame = json.loads(path.read_text())["frames"][0]
        assert frame["index"] == 0 and not any(figure["nnCreated"] for figure in frame["figures"])
        return sorted(json.dumps(figure["geometry"]) for figure in frame["figures"])

    assert drawn(out / "annotation.json") == drawn(clip[1])


@pytest.mark.slow
def test_killed_and_gone_on_with_gives_the_same(
    command: Command, clip: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    again = tmp_path / "parts"
    call = ("label", clip[0], "--examples", clip[1], "--out", again, *QUICK)
    run = subprocess.Popen(arguments(call), cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (again / "unfinished.sqlite").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.4)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = command(*call)
    assert done.returncode == 0, done.stderr
    for name in ("annotation.json", "meta.json", "tracks.txt"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    assert not list(again.glob("unfinished*"))


def test_several_videos_learn_from_one(command: Command, clip: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_clip(folder / "b.mp4", seed=4, frames=10)
    shutil.copy(clip[0], folder / "a.mp4")
    how = ("label", folder, "--examples", clip[1], "--out", tmp_path / "out", "--no-overlay", "--workers", 2, *QUICK)
    done = command(*how)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(v["video"], v["frames"]) for v in summary["videos"]] == [("a.mp4", 24), ("b.mp4", 10)]
    assert summary["videos"][1]["new"] == summary["videos"][1]["objects"] >= 4
    before = (tmp_path / "out" / "b" / "tracks.txt").stat().st_mtime_ns
    assert command(*how).returncode == 0
    assert (tmp_path / "out" / "b" / "tracks.txt").stat().st_mtime_ns == before


def test_areas_come_back_as_areas_and_stills_have_no_identities(command: Command, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "toy.mp4", frames=6)
    labels = write_labels(tmp_path / "labels", video, outlined=True)
    done = command(
        "label",
        tmp_path / "toy.mp4",
        "--examples",
        labels,
        "--out",
        tmp_path / "out",
        "--still",
        "--no-overlay",
        *QUICK,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "annotation.json").read_text())
    kinds = {figure["geometryType"] for frame in written["frames"] for figure in frame["figures"]}
    assert kinds == {"polygon", "bitmap"}
    assert {"any"} == {entry["shape"] for entry in json.loads((tmp_path / "out" / "meta.json").read_text())["classes"]}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--frames", "x"), "--frames x"),
        (("--frames", "99"), "Frame 99 of the examples does not exist"),
        (("--frames", "3"), "No object is labelled"),
        (("--candidate", "nothing"), "no candidate 'nothing'"),
        (("--text", "disc"), "write CLASS=WORDS"),
        (("--text", "car=auto"), "no such class"),
        (("--tracker", "x"), "no tracker 'x'"),
        (("--device", "tpu"), "choose auto, cpu or cuda"),
        (("--on", "none.mp4"), "There is no file or folder none.mp4"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], clip: tuple[Path, Path], tmp_path: Path, more: tuple[str, ...], says: str
) -> None:
    call = ["label", str(clip[0]), "--examples", str(clip[1]), "--out", str(tmp_path / "out"), "--quiet", *more]
    assert main(call) == 2
    told = capsys.readouterr().err
    assert says in told and len(told.strip().splitlines()) == 1


def test_examples_of_another_size_or_none_are_told(
    capsys: pytest.CaptureFixture[str], clip: tuple[Path, Path], tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    assert main(["label", str(clip[0]), "--examples", str(tmp_path / "no.json"), "--out", out]) == 2
    assert "there is no such file" in capsys.readouterr().err
    other = write_labels(tmp_path / "other", ToyVideo(size=(320, 200)))
    assert main(["label", str(clip[0]), "--examples", str(other), "--out", out]) == 2
    assert "320 x 200" in capsys.readouterr().err


def test_effort_is_compared_by_the_way_of_labeling(
    command: Command, clip: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    video = ToyVideo(24, seed=1)
    numbers = {thing.key: number for number, thing in enumerate(video.things, 1)}
    lines = [
        f"{frame + 1},{numbers[thing.key]},{b[0]:.1f},{b[1]:.1f},{b[2] - b[0]:.1f},{b[3] - b[1]:.1f},1,1,1"
        for frame in range(24)
        for thing, b in video.boxes(frame)
    ]
    truth = tmp_path / "gt.txt"
    truth.write_text("\n".join(lines) + "\n")
    call = ("evaluate", "effort", truth, clip[0], "--result", out / "tracks.txt", "--json")
    done = command(*call, "--way", "interpolation", "--way", "assistant")
    assert done.returncode == 0, done.stderr
    ways = json.loads(done.stdout)["ways"]
    assert set(ways) == {"interpolation", "assistant"}
    # things move on straight lines: two key figures each, a few more where the picture's edge cuts one
    assert 10 <= ways["interpolation"]["corrections"] <= 14
    assert 4 <= ways["assistant"]["corrections"] <= 10
    assert ways["assistant"]["per_thousand"] == pytest.approx(1000 * ways["assistant"]["corrections"] / 24, abs=0.01)
    assert command(*call, "--way", "magic").returncode == 2
