"""The associate command end to end on files, as a person runs it, and one clear line for every wrong input."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.evaluation import mot, mot_text
from tests.apps.cli.conftest import Command
from tests.common.association.scenes import walkers

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "mot"


def detections(path: Path, boxes: np.ndarray, frames: range, label: int | None = None, score: float = 0.9) -> Path:
    tail = "" if label is None else f",{label},1"
    lines = [
        f"{f + 1},-1,{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score}{tail}\n"
        for f in frames
        for x1, y1, x2, y2 in boxes[f].tolist()
    ]
    path.write_text("".join(lines))
    return path


def test_text_in_text_out(command: Command, tmp_path: Path) -> None:
    boxes = walkers(4, 40)
    text = detections(tmp_path / "det.txt", boxes, range(40), label=2)
    out = tmp_path / "new" / "tracks.txt"
    done = command("associate", text, "--out", out, "--fps", 25, "--size", "4000x1080")
    assert done.returncode == 0, done.stderr
    rows = mot_text.read(out)
    assert len(rows.frame) == 160 and set(rows.id.tolist()) == {1, 2, 3, 4} and set(rows.label.tolist()) == {2}
    assert rows.columns == 9 and rows.frame.tolist() == sorted(rows.frame.tolist())
    assert [p.name for p in out.parent.iterdir()] == ["tracks.txt"]


@pytest.mark.parametrize("tracker", ["deepsort", "bytetrack"])
def test_every_second_frame_and_every_tracker(command: Command, tmp_path: Path, tracker: str) -> None:
    text = detections(tmp_path / "det.txt", walkers(2, 61), range(4, 61, 2))
    out = tmp_path / "tracks.txt"
    done = command("associate", text, "--out", out, "--tracker", tracker, "--quiet")
    assert done.returncode == 0 and not done.stderr, done.stderr
    rows = mot_text.read(out)
    assert sorted(set(rows.frame.tolist())) == list(range(5, 62, 2)) and len(set(rows.id.tolist())) == 2
    assert set(rows.label.tolist()) == {1}


def test_repair_fills_and_no_repair_does_not(command: Command, tmp_path: Path) -> None:
    boxes = walkers(1, 40)
    text = detections(tmp_path / "det.txt", boxes, range(40))
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[:15] + lines[21:]))
    out = tmp_path / "tracks.txt"
    assert command("associate", text, "--out", out).returncode == 0
    assert mot_text.read(out).frame.tolist() == list(range(1, 41))
    assert command("associate", text, "--out", out, "--no-repair").returncode == 0
    assert len(mot_text.read(out).frame) == 34


def test_pictures_and_camera_files_keep_identities_in_a_jump(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    world = cv2.resize(rng.integers(0, 255, (60, 120, 3), np.uint8), (1200, 600), interpolation=cv2.INTER_CUBIC)
    boxes = np.tile(np.array([[300, 200, 340, 300], [380, 200, 420, 300]], float), (12, 1, 1))
    boxes[6:] -= np.array([60, 0, 60, 0])
    (tmp_path / "img").mkdir()
    for frame in range(12):
        x = 160 if frame >= 6 else 100
        cv2.imwrite(str(tmp_path / "img" / f"{frame:03d}.png"), world[50:530, x : x + 640])
    text = detections(tmp_path / "det.txt", boxes, range(12))
    camera = tmp_path / "gmc.txt"
    camera.write_text("".join(f"{f} 1 0 {-60 if f == 6 else 0} 0 1 0\n" for f in range(12)))
    for number, flags in enumerate((("--frames", tmp_path / "img"), ("--camera-motion", camera))):
        out = tmp_path / f"tracks{number}.txt"
        done = command("associate", text, "--out", out, "--no-repair", *flags)
        assert done.returncode == 0, done.stderr
        rows = mot_text.read(out)
        left = [rows.id[(rows.frame == f)][rows.xywh[rows.frame == f, 0].argmin()] for f in (1, 12)]
        assert left[0] == left[1] and len(set(rows.id.tolist())) == 2


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        (None, (), "does not exist"),
        ("1,-1,5,5\n", (), "line 1"),
        ("1,-1,5,5,9,9,-3.5\n2,-1,5,5,9,9,7\n", (), "column 7"),
        ("1,-1,5,5,9,9,1\n", ("--size", "big"), "WIDTHxHEIGHT"),
        ("1,-1,5,5,9,9,1\n", ("--tracker", "nobody"), "botsort"),
        ("1,-1,5,5,9,9,1\n", ("--camera-motion", "none.txt"), "none.txt"),
        ("1,-1,5,5,9,9,1\n", ("--camera-motion", "a", "--frames", "b"), "not both"),
        ("1,-1,5,5,9,9,1\n", ("--frames", "nowhere.mp4"), "nowhere.mp4"),
    ],
)
def test_wrong_input_is_one_line(
    command: Command, tmp_path: Path, text: str | None, flags: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "det.txt"
    if text is not None:
        path.write_text(text)
    out = tmp_path / "tracks.txt"
    done = command("associate", path, "--out", out, *flags)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not out.exists()


def test_results_never_replace_their_source(command: Command, tmp_path: Path) -> None:
    text = detections(tmp_path / "det.txt", walkers(1, 3), range(3))
    before = text.read_text()
    done = command("associate", text, "--out", text)
    assert done.returncode == 2 and text.read_text() == before


def test_no_detections_give_no_tracks(command: Command, tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("")
    assert command("associate", tmp_path / "det.txt", "--out", tmp_path / "o.txt").returncode == 0
    assert (tmp_path / "o.txt").read_text() == ""


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data (mot)")
@pytest.mark.parametrize(("sequence", "least"), [("PETS09-S2L1", 0.36), ("TUD-Stadtmitte", 0.52)])
def test_real_detections_score_as_published(command: Command, tmp_path: Path, sequence: str, least: float) -> None:
    folder = SHARED / "MOT15" / sequence
    out = tmp_path / "tracks.txt"
    done = command("associate", folder / "det" / "det.txt", "--fps", 7 if "PETS" in sequence else 25, "--out", out)
    assert done.returncode == 0, done.stderr
    truth = mot_text.read(folder / "gt" / "gt.txt")
    assert mot.score(truth, mot_text.read(out), rules="MOT15").summary()["HOTA"] > least
