"""`predict`: videos in, labels out; killed anywhere, the same command ends in the same result."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import supervisely as sly

from apps.__main__ import main
from apps.cli.predict import _jobs, _videos
from common.errors import VideoUnreadable
from common.evaluation import mot_text
from common.video.writer import VideoWriter
from tests.apps.cli.conftest import ROOT, Command, arguments

DATA = ROOT.parent / "shared" / "data"
FASTESTDET = DATA / "weights" / "FastestDet" / "FastestDet.onnx"
CAMPUS = DATA / "mot" / "MOT15" / "TUD-Campus"


def write_video(path: Path, seed: int, frames: int = 24) -> Path:
    """A textured patch that moves over textured ground."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 120, (30, 40, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    patch = np.kron(rng.integers(120, 255, (7, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    with VideoWriter(path, 160, 120, 25.0) as writer:
        for n in range(frames):
            image = ground.copy()
            left = 8 + 4 * n
            image[40:68, left : left + 32] = patch[:, : max(0, 160 - left)]
            writer.write(image)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    for seed in range(20):
        write_video(made / f"v{seed:02}.mp4", seed, 24 if seed < 4 else 12)
    return made


def written(out: Path) -> dict[str, bytes]:
    """All files but the timings."""
    found = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for name in [name for name in found if name.endswith("summary.json")]:
        summary = json.loads(found[name])
        for key in ("seconds", "frames_per_second", "peak_memory_mb"):
            summary.pop(key, None)
            for video in summary.get("videos", ()):
                video.pop(key, None)
        found[name] = json.dumps(summary).encode()
    return found


def test_one_video_gives_the_files_of_every_job(command: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("predict", folder / "v00.mp4", "--detector", "motion", "--out", out)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {"annotation.json", "meta.json", "tracks.txt", "summary.json", "overlay.mp4"}
    meta = sly.ProjectMeta.from_json(json.loads((out / "meta.json").read_text()))
    annotation = sly.VideoAnnotation.from_json(json.loads((out / "annotation.json").read_text()), meta)
    rows = mot_text.read(out / "tracks.txt")
    longest = max(np.unique(rows.id).tolist(), key=lambda i: np.count_nonzero(rows.id == i))
    own = rows.id == longest
    assert np.count_nonzero(own) >= 18
    right = rows.xywh[own, 0] + rows.xywh[own, 2]
    assert np.median(np.abs(right - (40 + 4 * (rows.frame[own] - 1)))) < 3
    assert len(annotation.figures) == len(rows.id)
    assert {o.obj_class.name for o in annotation.objects} == {"object"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is True
    assert "objects in 24 frames" in done.stderr


@pytest.mark.slow
def test_twenty_videos_killed_three_times_are_labelled_once(process: Command, folder: Path, tmp_path: Path) -> None:
    """The kills fall anywhere: at random moments of a run that the uninterrupted one has timed."""
    began = time.monotonic()
    whole = process("predict", folder, "--detector", "motion", "--out", tmp_path / "whole", "--no-overlay")
    took = time.monotonic() - began
    assert whole.returncode == 0, whole.stderr
    chance, killed = random.Random(4), 0
    parts = arguments(["predict", folder, "--detector", "motion", "--out", tmp_path / "parts", "--no-overlay"])
    for _ in range(3):
        run = subprocess.Popen(parts, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(chance.uniform(0.15, 0.6) * took)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            killed += 1
            run.wait()
    assert killed, "no run was cut off"
    last = process("predict", folder, "--detector", "motion", "--out", tmp_path / "parts", "--no-overlay")
    assert last.returncode == 0, last.stderr
    expected = written(tmp_path / "whole")
    assert len([name for name in expected if name.endswith("tracks.txt")]) == 20
    assert written(tmp_path / "parts") == expected


def test_bad_videos_do_not_hold_up_the_others(command: Command, folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.mp4").write_bytes(b"no video")
    shutil.copy(folder / "v01.mp4", mixed / "b.mp4")
    done = command("predict", mixed, "--detector", "motion", "--out", tmp_path / "out", "--no-overlay", "--quiet")
    assert done.returncode == 2
    assert "1 of 2 videos could not be labelled" in done.stderr
    assert (tmp_path / "out" / "b" / "annotation.json").exists()
    write_video(mixed / "a.mp4", 3)
    again = command("predict", mixed, "--detector", "motion", "--out", tmp_path / "out", "--no-overlay")
    assert again.returncode == 0, again.stderr
    assert [v["video"] for v in json.loads((tmp_path / "out" / "summary.json").read_text())["videos"]] == [
        "a.mp4",
        "b.mp4",
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--detector", "nothing"), "no detector named"),
        (("--detector", "hog", "--tracker", "x"), "no tracker 'x'"),
        (("--detector", "hog", "--class", "car"), "does not know the class 'car'"),
        (("--detector", "hog", "--executor", "slurm"), "choose local or ray"),
        (("--detector", "hog", "--device", "tpu"), "choose auto, cpu or cuda"),
        (("--detector", "onnx", "--weights", "none.onnx"), "no such file"),
        (
            (
                "--detector",
                "onnx",
            ),
            "--weights FILE",
        ),
        (("--detector", "hog", "--looks", "nonet"), "no OSNet"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, more: tuple[str, ...], says: str
) -> None:
    assert main(["predict", str(folder / "v00.mp4"), "--out", str(tmp_path / "out"), "--quiet", *more]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.strip().splitlines()) == 1


def test_paths_are_taken_as_meant(folder: Path, tmp_path: Path) -> None:
    for name in ("x/1.png", "x/2.png", "y/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert len(_videos(folder)) == 20
    assert _videos(tmp_path / "x") == [tmp_path / "x"]
    assert _videos(tmp_path) == [tmp_path / "x", tmp_path / "y"]
    for name in ("empty", "void"):
        (tmp_path / name).mkdir()
        with pytest.raises(VideoUnreadable):
            _videos(tmp_path / name)
    jobs = _jobs([tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.avi", tmp_path / "x"], tmp_path / "out", True)
    assert [Path(job.out).name for job in jobs] == ["clip", "clip-2", "x"]


@pytest.mark.slow
def test_a_cluster_gives_the_same(command: Command, process: Command, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed; see dev_requirements.txt")
    videos = [folder / "v02.mp4", folder / "v03.mp4"]
    for name, run in (("local", command), ("ray", process)):
        done = run(
            "predict", *videos, "--detector", "motion", "--executor", name, "--out", tmp_path / name, "--no-overlay"
        )
        assert done.returncode == 0, done.stderr
    assert written(tmp_path / "ray") == written(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.skipif(
    not (FASTESTDET.exists() and CAMPUS.exists()), reason="no ../shared/data: FastestDet and TUD-Campus"
)
def test_people_are_found_and_followed(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    video = CAMPUS / "TUD-Campus.mp4"
    how = ("--detector", "fastestdet", "--weights", FASTESTDET, "--class", "person", "--no-overlay")
    done = command("predict", video, *how, "--out", out)
    assert done.returncode == 0, done.stderr
    report = command("evaluate", "mot", CAMPUS / "gt" / "gt.txt", out / "tracks.txt", "--json")
    assert report.returncode == 0, report.stderr
    assert "HOTA" in report.stdout
    rows = mot_text.read(out / "tracks.txt")
    assert 5 <= len(np.unique(rows.id)) <= 20
    assert np.unique(rows.frame).tolist() == list(range(1, 72))
