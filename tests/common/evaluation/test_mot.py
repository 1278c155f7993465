"""Multi-object scores agree with TrackEval run on files, box for box; malformed files are refused in one line."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import trackeval

from common.errors import UserError
from common.evaluation import mot
from common.evaluation.mot_text import MotRows, read

SHARED = Path(__file__).parents[4] / "shared" / "data" / "mot"


def _trackeval(tmp_path: Path, truth: str, result: str, frames: int, benchmark: str) -> dict[str, dict]:
    """The reference: the published evaluator on files in its own layout."""
    (tmp_path / "gt" / "seq" / "gt").mkdir(parents=True)
    (tmp_path / "gt" / "seq" / "gt" / "gt.txt").write_text(truth)
    (tmp_path / "trackers" / "ours" / "data").mkdir(parents=True)
    (tmp_path / "trackers" / "ours" / "data" / "seq.txt").write_text(result)
    config = {
        "GT_FOLDER": str(tmp_path / "gt"),
        "TRACKERS_FOLDER": str(tmp_path / "trackers"),
        "BENCHMARK": benchmark,
        "SKIP_SPLIT_FOL": True,
        "SEQ_INFO": {"seq": frames},
        "PRINT_CONFIG": False,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.MotChallenge2DBox(config)
        raw = dataset.get_raw_seq_data("ours", "seq")
        data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
        quiet = {"PRINT_CONFIG": False}
        return {
            "hota": trackeval.metrics.HOTA().eval_sequence(data),
            "clear": trackeval.metrics.CLEAR(quiet).eval_sequence(data),
            "identity": trackeval.metrics.Identity(quiet).eval_sequence(data),
        }


def _random_case(seed: int, columns: int) -> tuple[str, str]:
    """Walking boxes with distractors and ignored ones; a result with noise, swaps, misses and false alarms."""
    rng = np.random.default_rng(seed)
    truth, result = [], []
    labels = rng.choice([1, 1, 1, 2, 7, 8, 12, 6, 3], 8)
    place, size = rng.uniform(0, 300, (8, 2)), rng.uniform(20, 60, (8, 2))
    for frame in range(1, 31):
        place = place + rng.normal(0, 4, (8, 2))
        for k in range(8):
            if rng.random() < 0.85:
                x, y, (w, h) = *place[k], size[k]
                flag = int(rng.random() < 0.9)
                tail = f"{flag},{labels[k]},0.5" if columns == 9 else f"{flag},-1,-1,-1"
                truth.append(f"{frame},{k + 1},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{tail}")
            if rng.random() < 0.8:
                x, y, w, h = np.r_[place[k], size[k]] + rng.normal(0, 3, 4)
                name = k + 10 + (50 if frame > 15 and k % 2 else 0)
                result.append(f"{frame},{name},{x:.2f},{y:.2f},{w:.2f},{h:.2f},0.9,-1,-1,-1")
        if rng.random() < 0.5:
            result.append(f"{frame},{900 + frame},{rng.uniform(0, 300):.2f},5,30,30,0.4,-1,-1,-1")
    return "\n".join(truth) + "\n", "\n".join(result) + "\n"


def _assert_same(ours: mot.MotScores, reference: dict[str, dict]) -> None:
    for family in ("hota", "clear", "identity"):
        mine = getattr(ours, family)
        assert set(mine) == set(reference[family])
        for field, value in reference[family].items():
            np.testing.assert_allclose(mine[field], value, atol=1e-9, rtol=0, err_msg=f"{family} {field}")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("benchmark", "columns"), [("MOT15", 10), ("MOT17", 9), ("MOT20", 9)])
def test_agrees_with_trackeval(tmp_path, seed, benchmark, columns):
    truth, result = _random_case(seed, columns)
    (tmp_path / "t.txt").write_text(truth)
    (tmp_path / "r.txt").write_text(result)
    ours = mot.score(read(tmp_path / "t.txt"), read(tmp_path / "r.txt"), 30, benchmark)
    _assert_same(ours, _trackeval(tmp_path, truth, result, 30, benchmark))
    assert ours.clear["IDSW"] > 0 and ours.clear["CLR_FP"] > 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared MOT data beside the checkout")
@pytest.mark.parametrize(("name", "mota", "idf1"), [("TUD-Campus", 52.6, 55.8), ("TUD-Stadtmitte", 56.4, 64.5)])
def test_published_scores(tmp_path, name, mota, idf1):
    folder = SHARED / "evaluator_check" / name
    ours = mot.score(read(folder / "gt.txt"), read(folder / "hyp.txt"))
    summary = ours.summary()
    assert (round(100 * summary["MOTA"], 1), round(100 * summary["IDF1"], 1), summary["IDSW"]) == (mota, idf1, 7)
    length = read(folder / "gt.txt").frames
    reference = _trackeval(tmp_path, (folder / "gt.txt").read_text(), (folder / "hyp.txt").read_text(), length, "MOT15")
    _assert_same(ours, reference)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared MOT data beside the checkout")
def test_real_distractors(tmp_path):
    """MOT17-09's own truth as the result, every class: with the rules, distractors cost nothing."""
    gt = SHARED / "MOT17" / "MOT17-09" / "gt" / "gt.txt"
    truth = read(gt)
    assert mot.applicable(truth, "auto") == "MOT17"
    text = "".join(f"{f},{i},{x},{y},{w},{h},1,-1,-1,-1\n" for f, i, (x, y, w, h) in zip(truth.frame, truth.id, truth.xywh.tolist(), strict=True))  # fmt: skip
    (tmp_path / "r.txt").write_text(text)
    ours = mot.score(truth, read(tmp_path / "r.txt"), 525, "MOT17")
    _assert_same(ours, _trackeval(tmp_path, gt.read_text(), text, 525, "MOT17"))


def _rows(*rows, columns=7) -> MotRows:
    table = np.array(rows, float).reshape(-1, 6)
    n = len(table)
    return MotRows(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:], np.ones(n), np.full(n, -1), columns)


def test_perfect_and_empty():
    truth = _rows(*[(f, k, 50 * k, 10, 20, 20) for f in range(1, 6) for k in (1, 2)])
    perfect = mot.score(truth, truth).summary()
    assert perfect["HOTA"] == perfect["MOTA"] == perfect["IDF1"] == 1 and perfect["FN"] == 0
    nothing = mot.score(truth, _rows()).summary()
    assert (nothing["HOTA"], nothing["MOTA"], nothing["FN"]) == (0, 0, 10)
    assert mot.score(_rows(), _rows()).summary()["HOTA"] == 0


def test_combining_weighs_by_boxes():
    truth = _rows(*[(f, 1, 10, 10, 20, 20) for f in range(1, 5)])
    both = mot.combine({"a": mot.score(truth, truth), "b": mot.score(truth, _rows())}).summary()
    assert both["MOTA"] == pytest.approx(0.5) and both["TP"] == 4 and both["FN"] == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,1,5,5,5\n", "line 1: 5 columns"),
        (b"1,1,5,5,5,5\n1,2,5,5,5,5,1\n", "line 2: 7 columns"),
        (b"1,1,a,5,5,5\n", "line 1: not all numbers"),
        (b"1,1,5,5,5,5\n\n0,1,5,5,5,5\n", "line 3: frames count from 1"),
        (b"1.5,1,5,5,5,5\n", "whole numbers"),
        (b"1,1,nan,5,5,5\n", "finite"),
        (b"1,1,5,5,-5,5\n", "negative"),
        (b"\xff\xfe\x00\x81", "not a text file"),
    ],
)
def test_malformed_files(tmp_path, content, message):
    path = tmp_path / "tracks.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_wrong_identities(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "no.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)
    box = (10, 10, 20, 20)
    with pytest.raises(UserError, match="more than once in frame 3"):
        mot.score(_rows((3, 1, *box)), _rows((3, 4, *box), (3, 4, *box)))
    with pytest.raises(UserError, match="id -1"):
        mot.score(_rows((3, 1, *box)), _rows((3, -1, *box)))
    with pytest.raises(UserError, match="ends at frame 2"):
        mot.score(_rows((1, 1, *box)), _rows((3, 1, *box)), frames=2)


def test_separators_and_missing_columns(tmp_path):
    path = tmp_path / "tracks.txt"
    path.write_text("1 7 1 2 3 4\n\n2\t7\t1\t2\t3\t4\n")
    rows = read(path)
    assert rows.frame.tolist() == [1, 2] and rows.flag.tolist() == [1, 1] and rows.label.tolist() == [-1, -1]
    path.write_text("1,7,1,2,3,4,0.5,car,0.9\n")
    assert read(path).label.tolist() == [-1]
    path.write_text("")
    assert read(path).columns == 0 and read(path).frames == 0
