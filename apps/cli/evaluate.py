"""`python -m apps evaluate ...`: how good a result is, against ground truth, as a table or JSON."""

from __future__ import annotations

import configparser
import json
import math
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import typer
from rich import box as borders
from rich.console import Console
from rich.table import Table

from common.errors import UserError
from common.evaluation import boxes as box_metrics
from common.evaluation import masks as mask_metrics
from common.evaluation import mot as mot_metrics
from common.evaluation import points as point_metrics
from common.evaluation import readers
from common.evaluation.mot_text import MotRows
from common.evaluation.mot_text import read as read_mot

app = typer.Typer(
    name="evaluate",
    help="Score results against ground truth.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Truth = Annotated[Path, typer.Argument(metavar="GT", help="Ground truth.")]
Result = Annotated[Path, typer.Argument(metavar="RESULT", help="What is to be scored.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

WAYS = ("interpolation", "forward", "two-sided", "assistant")
"""Of labeling, as `evaluate effort` compares them."""

MotRules = StrEnum("MotRules", {name: name for name in get_args(mot_metrics.Rules)})
SkipFrames = StrEnum("SkipFrames", {name: name for name in get_args(mask_metrics.Skip)})


@app.command("mot")
def evaluate_mot(
    truth: Truth,
    result: Result,
    rules: Annotated[
        MotRules,
        typer.Option(help="Which true boxes count: MOT17 and MOT20 take distractor classes out; plain counts all."),
    ] = MotRules.auto,  # type: ignore[attr-defined]
    frames: Annotated[
        int | None, typer.Option(min=1, help="Length of the sequence; else seqinfo.ini's, else the last row's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """HOTA, CLEAR and IDF1 of MOTChallenge text files, or of two folders of them (GT/SEQ/gt/gt.txt, RESULT/SEQ.txt)."""
    pairs = _sequences(truth, result)
    scores: dict[str, mot_metrics.MotScores] = {}
    used: set[str] = set()
    for name, (truth_file, result_file) in pairs.items():
        rows = read_mot(truth_file)
        length = frames if frames is not None else _length_beside(truth_file)
        used.add(mot_metrics.applicable(rows, rules.value))
        scores[name] = mot_metrics.score(rows, read_mot(result_file), length, rules.value)
    table = {name: score.summary() for name, score in scores.items()}
    if len(table) > 1:
        table["COMBINED"] = mot_metrics.combine(scores).summary()
    shown = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN", "MT", "ML")
    _report({"rules": "/".join(sorted(used)), "sequences": table}, table, shown, as_json, "Multi-object tracking")


@app.command("boxes")
def evaluate_boxes(
    truth: Truth,
    result: Result,
    identity: Annotated[
        str | None, typer.Option("--id", help="Object of RESULT, when GT does not name its object.")
    ] = None,
    one_based: Annotated[
        bool,
        typer.Option("--one-based/--zero-based", help="Whether rectangles (x,y,w,h) count pixels from 1, as OTB does."),
    ] = True,
    start: Annotated[
        int, typer.Option(min=0, help="Frame (from 0) of the first rectangle of a file without frame numbers.")
    ] = 0,
    skip_first: Annotated[
        bool, typer.Option("--skip-first", help="Leave out the first frame, which was given.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Overlap, success (AUC), precision and normalised precision of boxes: MOT text or OTB rectangle files."""
    true, found = (readers.read_boxes(path, one_based, start) for path in (truth, result))
    table = {}
    for key, partner in _paired_boxes(true, found, identity, result).items():
        frames = sorted(true.boxes[key])[skip_first:]
        predicted = np.full((len(frames), 4), np.nan) if partner is None else found.track(partner, frames)
        table[key] = asdict(box_metrics.score(true.track(key, frames), predicted))
    shown = ("frames", "overlap", "auc", "success_50", "precision", "normalised_precision", "normalised_auc", "lost")
    _report_objects(table, shown, as_json, "Boxes")


@app.command("masks")
def evaluate_masks(
    truth: Truth,
    result: Result,
    skip: Annotated[
        SkipFrames, typer.Option(help="Frames of GT left out; first-last is what DAVIS's own tools do.")
    ] = SkipFrames.first,  # type: ignore[attr-defined]
    as_json: AsJson = False,
) -> None:
    """Region similarity J and boundary accuracy F of folders of PNG masks (RESULT: masks/OBJECT/FRAME.png)."""
    true, found = readers.read_masks(truth), readers.read_masks(result)
    table = {}
    for key, partner in _paired_names(tuple(true.files), tuple(found.files), "mask").items():
        pairs = (_mask_pair(true, key, found, partner, frame) for frame in true.files[key])
        table[key] = asdict(mask_metrics.score(pairs, skip.value))
    _report_objects(table, ("frames", "j", "f", "jf", "j_recall", "f_recall"), as_json, "Masks")


@app.command("points")
def evaluate_points(
    truth: Truth,
    result: Result,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Picture size, to score on the 256 x 256 raster as TAP-Vid does.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """TAP-Vid scores and pixel errors of points: GT .npz, .csv or BADJA .json; RESULT points.csv."""
    true, found = readers.read_points(truth), readers.read_points(result)
    order = _paired_points(true, found)
    length = true.xy.shape[1]
    predicted, visible = np.full(true.xy.shape, np.nan), np.zeros(true.visible.shape, bool)
    common = min(length, found.xy.shape[1])
    predicted[:, :common], visible[:, :common] = found.xy[order, :common], found.visible[order, :common]
    args = (np.nan_to_num(true.xy, nan=-1e9), true.visible, true.query_frame, predicted, visible)
    raster = _parsed_size(size) if size is not None else true.size
    table = {"own pixels": _flat(point_metrics.score(*args, labelled=true.labelled))}
    if raster is not None:
        table = {"256 raster": _flat(point_metrics.score(*args, size=raster, labelled=true.labelled)), **table}
    shown = ("scored", "aj", "delta_avg", "oa", "mean_error", "median_error", "missing")
    _report({"points": len(true.names), "scores": table}, table, shown, as_json, "Points")


@app.command("effort")
def evaluate_effort(
    truth: Truth,
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video, or a folder of its images.")],
    result: Annotated[
        Path | None, typer.Option(metavar="TRACKS.txt", help="What the assistant made.", show_default=False)
    ] = None,
    examples: Annotated[
        str, typer.Option(metavar="1,26,...", help="Frames (from 1) that were labelled for the assistant.")
    ] = "1",
    tracker: Annotated[str, typer.Option(metavar="NAME", help="What tracks.")] = "correlation",
    ways: Annotated[
        list[str] | None,
        typer.Option("--way", metavar="|".join(WAYS), help="Only this way; repeat for more.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Corrections that a simulated annotator makes per 1,000 frames, by the way of labeling. Truth and result: MOT text."""
    from common.labeling import effort  # brings the trackers
    from common.trackers import registry
    from common.video.reader import open_source

    unknown = [way for way in ways or () if way not in WAYS]
    if unknown:
        raise UserError(f"--way {unknown[0]}: choose {', '.join(WAYS)}.")
    if result is None and ways and "assistant" in ways:
        raise UserError("The assistant's effort needs its result: pass --result TRACKS.txt.")
    numbers = [part.strip() for part in examples.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in numbers):
        raise UserError(f"--examples {examples}: give numbers of frames from 1 with commas between them, such as 1,26.")
    source = open_source(video)
    frames = source.info.frames
    lives = [
        effort.Life(key, boxes, np.zeros(frames, bool))
        for key, boxes in _tracked(read_mot(truth), frames, truth).items()
    ]
    made = registry.make(tracker)
    done: dict[str, effort.Effort] = {}
    for way in ways or [way for way in WAYS if way != "assistant" or result is not None]:
        if way == "interpolation":
            done[way] = effort.by_interpolation(lives, frames)
        elif way == "forward":
            done[way] = effort.forward(lives, source, made)
        elif way == "two-sided":
            done[way] = effort.two_sided(lives, source, made)
        else:
            assert result is not None
            found = _tracked(read_mot(result), frames, result)
            done[way] = effort.assisted(lives, found, source, made, [int(n) - 1 for n in numbers])
    table = {
        way: {"frames": one.frames, "corrections": one.corrections, "per_thousand": round(one.per_thousand, 2)}
        for way, one in done.items()
    }
    if as_json:
        typer.echo(json.dumps({"objects": len(lives), "ways": table}, indent=1))
        return
    shown = Table(title="Labeling effort", box=borders.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for heading in ("", "frames", "corrections", "per 1,000 frames"):
        shown.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for way, row in table.items():
        shown.add_row(way, str(row["frames"]), str(row["corrections"]), f"{row['per_thousand']:.1f}")
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def _tracked(rows: MotRows, frames: int, path: Path) -> dict[str, Any]:
    """Boxes float64 (frames, 4) by identity, NaN where it is not. Rows with flag 0 are left out."""
    if rows.frames > frames:
        raise UserError(f"{path.name} has frame {rows.frames}, but the video ends at frame {frames}.")
    found: dict[str, Any] = {}
    for row in np.flatnonzero(rows.flag != 0):
        boxes = found.setdefault(str(int(rows.id[row])), np.full((frames, 4), np.nan))
        x, y, w, h = rows.xywh[row]
        boxes[int(rows.frame[row]) - 1] = x, y, x + w, y + h
    return found


# -- which result belongs to which truth ------------------------------------------------------------------------------


def _sequences(truth: Path, result: Path) -> dict[str, tuple[Path, Path]]:
    if not truth.is_dir():
        if result.is_dir() and (result / "tracks.txt").is_file():
            result = result / "tracks.txt"
        return {result.stem: (truth, result)}
    if not result.is_dir():
        raise UserError(f"{truth} is a folder of sequences, {result} is not a folder: give two files or two folders.")
    names = sorted(folder.name for folder in truth.iterdir() if (folder / "gt" / "gt.txt").is_file())
    if not names:
        raise UserError(f"{truth} holds no SEQUENCE/gt/gt.txt.")
    missing = [name for name in names if not (result / f"{name}.txt").is_file()]
    if missing:
        raise UserError(f"{result} has no {missing[0]}.txt ({len(missing)} of {len(names)} sequences are missing).")
    return {name: (truth / name / "gt" / "gt.txt", result / f"{name}.txt") for name in names}


def _length_beside(truth: Path) -> int | None:
    """seqLength of the seqinfo.ini of a MOTChallenge sequence folder, if there is one."""
    info = truth.parent.parent / "seqinfo.ini"
    if truth.parent.name != "gt" or not info.is_file():
        return None
    try:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(info, encoding="utf-8")
        return parser.getint("Sequence", "seqLength")
    except (configparser.Error, ValueError, UnicodeDecodeError):
        raise UserError(f"{info}: no readable seqLength; pass --frames.") from None


def _paired_boxes(
    true: readers.BoxTable, found: readers.BoxTable, identity: str | None, result: Path
) -> dict[str, str | None]:
    if identity is not None and identity not in found.boxes:
        raise UserError(f"{result} has no object {identity}; it has {_some(tuple(found.boxes))}.")
    if true.named and found.named:
        if identity is not None:
            if identity not in true.boxes:
                raise UserError(f"The ground truth has no object {identity}; it has {_some(tuple(true.boxes))}.")
            return {identity: identity}
        if len(true.boxes) > 1 or set(true.boxes) & set(found.boxes):
            return {key: key if key in found.boxes else None for key in true.boxes}
    if len(true.boxes) > 1:
        raise UserError(
            f"The ground truth has {len(true.boxes)} objects, {result} names none: score them one at a time."
        )
    if identity is None and len(found.boxes) > 1:
        raise UserError(f"{result} has {len(found.boxes)} objects ({_some(tuple(found.boxes))}): choose one with --id.")
    only = identity if identity is not None else next(iter(found.boxes), None)
    return {next(iter(true.boxes)): only}


def _paired_names(true: tuple[str, ...], found: tuple[str, ...], what: str) -> dict[str, str]:
    """By name where every true name occurs, else in order when there are equally many."""
    if set(true) <= set(found):
        return {name: name for name in true}
    if len(true) != len(found):
        raise UserError(
            f"The ground truth has {len(true)} {what}s ({_some(true)}), the result {len(found)} ({_some(found)}): "
            "give both the same names, or equally many."
        )
    return dict(zip(true, found, strict=True))


def _paired_points(true: readers.PointTable, found: readers.PointTable) -> list[int]:
    if set(true.names) <= set(found.names):
        return [found.names.index(name) for name in true.names]
    if len(true.names) != len(found.names):
        raise UserError(
            f"The ground truth has {len(true.names)} points, the result {len(found.names)}: they cannot be paired."
        )
    return list(range(len(found.names)))


def _mask_pair(
    true: readers.MaskFolder, key: str, found: readers.MaskFolder, partner: str, frame: int
) -> tuple[mask_metrics.Bool, mask_metrics.Bool]:
    expected = true.mask(key, frame)
    if expected is None:
        raise UserError(f"The ground truth has no picture for frame {frame}.")
    given = found.mask(partner, frame)
    if given is None:
        given = np.zeros_like(expected)
    if given.shape != expected.shape:
        sizes = " and ".join(f"{w}x{h}" for h, w in (expected.shape, given.shape))
        raise UserError(f"Frame {frame}: masks of {sizes} pixels cannot be compared ({found.files[partner][frame]}).")
    return expected, given


def _parsed_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise UserError(f"--size is WIDTHxHEIGHT in pixels, such as 640x360, got {text!r}.")
    return int(width), int(height)


def _some(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


_HEADINGS = {
    "auc": "AUC",
    "success_50": "S@0.5",
    "precision": "P@20px",
    "normalised_precision": "nP@0.2",
    "normalised_auc": "nP AUC",
    "j": "J",
    "f": "F",
    "jf": "J&F",
    "j_recall": "J recall",
    "f_recall": "F recall",
    "aj": "AJ",
    "delta_avg": "<delta avg",
    "oa": "OA",
}


# -- showing ----------------------------------------------------------------------------------------------------------


def _flat(scores: point_metrics.PointScores) -> dict[str, Any]:
    values = asdict(scores)
    for name in ("jaccard", "within"):
        thresholds = zip(point_metrics.THRESHOLDS, values.pop(name), strict=True)
        values |= {f"{name}_{threshold}": share for threshold, share in thresholds}
    return values


def _report_objects(table: dict[str, dict[str, Any]], shown: tuple[str, ...], as_json: bool, title: str) -> None:
    """Objects count equally, however long they are seen."""
    mean: dict[str, Any] = {}
    for name in shown:
        values = [row[name] for row in table.values() if not math.isnan(row[name])]
        mean[name] = sum(values) if name == "frames" else (float(np.mean(values)) if values else math.nan)
    rows = {**table, "MEAN": mean} if len(table) > 1 else table
    _report({"objects": table, "mean": mean}, rows, shown, as_json, title)


def _report(
    document: dict[str, Any], rows: dict[str, dict[str, Any]], shown: tuple[str, ...], as_json: bool, title: str
) -> None:
    if as_json:
        typer.echo(json.dumps(_plain(document), indent=1))
        return
    table = Table(title=title, box=borders.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in shown:
        table.add_column(_HEADINGS.get(name, name.replace("_", " ")), justify="right", no_wrap=True)
    for label, row in rows.items():
        table.add_row(label, *(_text(name, row[name]) for name in shown))
    # A pipe has no width of its own, and the default of 80 columns could cut numbers off.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _text(name: str, value: float) -> str:
    if isinstance(value, int | np.integer):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:.2f} px" if name.endswith("error") else f"{100 * value:.2f}"


def _plain(value: Any) -> Any:
    """For JSON, which knows no NaN."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
