"""From pictures to identities with nobody labeling: HOTA of `python -m apps predict` on public clips of people.

    python benchmarks/predict.py [--clips NAME ...]

A detector, BoT-SORT with looks, with and without repair. FastestDet and OSNet come from `../shared/data/weights`, the clips
from `../shared/data/mot` (of PETS the first 150 frames are there, as pictures); what is missing is left out, saying so. HOG and the colour descriptor need no weights.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.evaluation.mot import score
from common.evaluation.mot_text import read

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
CLIPS = ("TUD-Campus", "TUD-Stadtmitte", "PETS09-S2L1")
_FASTEST = DATA / "weights" / "FastestDet" / "FastestDet.onnx"
_OSNET = DATA / "weights" / "OSNet_x0_25" / "osnet_x0_25.pth"


@dataclass(frozen=True)
class Way:
    """One row of the table. files: what must be here for it."""

    title: str
    flags: tuple[str, ...]
    files: tuple[Path, ...] = ()


_FASTEST_FLAGS = ("--detector", "fastestdet", "--weights", str(_FASTEST), "--class", "person")
WAYS = (
    Way("HOG, BoT-SORT, colour descriptor", ("--detector", "hog")),
    Way("FastestDet, BoT-SORT, colour descriptor", _FASTEST_FLAGS, (_FASTEST,)),
    Way(
        "FastestDet, BoT-SORT, OSNet x0.25",
        (*_FASTEST_FLAGS, "--looks", f"osnet_x0_25_msmt17={_OSNET}"),
        (_FASTEST, _OSNET),
    ),
    Way(
        "the same without repair",
        (*_FASTEST_FLAGS, "--looks", f"osnet_x0_25_msmt17={_OSNET}", "--no-repair"),
        (_FASTEST, _OSNET),
    ),
)


def pictures(clip: Path) -> Path:
    """The clip's video or folder of images."""
    return next(clip.glob("*.mp4"), clip / "img1")


def run(clip: Path, way: Way, out: Path) -> tuple[dict[str, float | int], float]:
    """Scores over the frames that there are pictures of, and frames per processor second of the whole command."""
    command = [sys.executable, "-m", "apps", "predict", str(pictures(clip)), *way.flags]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--no-overlay", "--quiet", "--out", str(out)], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    truth, source = read(clip / "gt" / "gt.txt"), pictures(clip)
    frames = len(list(source.iterdir())) if source.is_dir() else truth.frames
    truth = truth.chosen(truth.frame <= frames)
    return score(truth, read(out / "tracks.txt"), frames).summary(), frames / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", nargs="+", default=CLIPS)
    options = parser.parse_args()
    print("| clip | way | HOTA | IDF1 | MOTA | id switches | frames/CPU s |\n|---|---|---|---|---|---|---|")
    for name in options.clips:
        clip = DATA / "mot" / "MOT15" / name
        if not clip.is_dir():
            print(f"{name} is not here; left out.")
            continue
        for way in WAYS:
            if not all(file.is_file() for file in way.files):
                print(f"{way.title}: weights are not here; left out.")
                continue
            with tempfile.TemporaryDirectory() as folder:
                found, speed = run(clip, way, Path(folder) / "out")
            figures = " | ".join(f"{100 * found[key]:.1f}" for key in ("HOTA", "IDF1", "MOTA"))
            print(f"| {name} | {way.title} | {figures} | {found['IDSW']} | {speed:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
