"""Looks: the network by its official names, and the descriptor without weights, on people seen again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.association.contract import Tracks
from common.association.reid.bank import LooksBank
from common.association.reid.descriptor import describe
from common.association.reid.embedder import OsNetEmbedder, official
from common.association.reid.osnet import WIDTHS, OsNet
from common.errors import EngineUnavailable, WeightsInvalid, WeightsMissing
from common.evaluation import mot_text
from common.geometry.detections import Detections
from common.video.reader import open_source
from common.weights.options import EngineOptions

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
WEIGHTS = SHARED / "weights" / "OSNet_x0_25" / "osnet_x0_25.pth"
needs_data = pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs ../shared/data (weights/OSNet_x0_25)")
SEEDED = EngineOptions(weights="seeded", device="cpu")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_loads_a_checkpoint_of_the_official_layout(width: str, tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in OsNet(width).state_dict().items()}
    state["module.classifier.weight"] = torch.zeros(7, 512)
    path = tmp_path / "w.pth"
    torch.save({"state_dict": state}, path)
    found = OsNetEmbedder(f"{width}_market1501", EngineOptions(weights=str(path), device="cpu"))
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    looks = found.embed(image, np.array([[5, 5, 50, 80], [40, 10, 200, 95], [500, 500, 520, 560]]))
    assert looks.shape == (3, 512)
    assert np.linalg.norm(looks, axis=1).tolist() == pytest.approx([1, 1, 0], abs=1e-5)


def test_batches_do_not_matter() -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    boxes = np.array([[x, 5, x + 30, 80] for x in range(0, 70, 10)])
    one = OsNetEmbedder("osnet_x0_25", SEEDED, batch=2).embed(image, boxes)
    many = OsNetEmbedder("osnet_x0_25", SEEDED).embed(image, boxes)
    assert np.abs(one - many).max() < 1e-4


def test_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailable, match="osnet_x0_25"):
        OsNetEmbedder("resnet50", SEEDED)
    path = tmp_path / "w.pth"
    torch.save({"conv1.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsInvalid):
        OsNetEmbedder("osnet_x0_25", EngineOptions(weights=str(path), device="cpu"))
    assert official({"module.fc.0.bias": 1, "classifier.bias": 2}) == {"fc.0.bias": 1}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsMissing, match="models download osnet_x1_0_msmt17"):
        OsNetEmbedder("osnet_x1_0_msmt17", EngineOptions(device="cpu"))


def _separation(clip: str, embed: object) -> tuple[float, float, float]:
    """Mean half cosine distance of one person at two times, of two people, and how often the former is the smaller."""
    folder = SHARED / "mot" / "MOT15" / clip
    truth = mot_text.read(folder / "gt" / "gt.txt")
    source = open_source(next(folder.glob("*.mp4")))
    looks, ids, frames = [], [], []
    for number in range(0, source.info.frames, 12):
        rows = truth.chosen((truth.frame == number + 1) & (truth.flag != 0))
        xyxy = rows.xywh.copy()
        xyxy[:, 2:] += xyxy[:, :2]
        looks.append(embed(source.read(number), xyxy))  # type: ignore[operator]
        ids += rows.id.tolist()
        frames += [number] * len(rows.id)
    every = np.concatenate(looks)
    distance = 0.5 * (1 - every @ every.T)
    i, j = np.triu_indices(len(every), 1)
    apart = np.array(frames)[i] != np.array(frames)[j]
    i, j = i[apart], j[apart]
    same = np.array(ids)[i] == np.array(ids)[j]
    mine, others = distance[i, j][same], distance[i, j][~same]
    return float(mine.mean()), float(others.mean()), float((mine[:, None] < others).mean())


@needs_data
@pytest.mark.parametrize("clip", ["TUD-Campus", "TUD-Stadtmitte"])
def test_the_same_person_is_nearer_than_another(clip: str) -> None:
    network = OsNetEmbedder("osnet_x0_25", EngineOptions(weights=str(WEIGHTS), device="cpu"))
    mine, others, ranked = _separation(clip, network.embed)
    assert mine < 0.7 * others and ranked > 0.82
    mine, others, ranked = _separation(clip, describe)
    assert mine < 0.7 * others and ranked > 0.78


def test_the_descriptor_knows_colours_and_where_they_are() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :40] = (200, 30, 30)
    image[:, 40:80] = (30, 30, 200)
    image[:50, 80:120], image[50:, 80:120] = (200, 30, 30), (30, 30, 200)
    image[:50, 120:160], image[50:, 120:160] = (30, 30, 200), (200, 30, 30)
    boxes = np.array([[x, 0, x + 40, 100] for x in (0, 40, 80, 120)] + [[5, 8, 35, 90], [300, 0, 340, 100]])
    looks = describe(image, boxes)
    near = looks @ looks.T
    assert near[0, 4] > 0.99 and near[:4, :4][~np.eye(4, dtype=bool)].max() < 0.8
    assert not looks[5].any()
    assert describe(image, np.zeros((0, 4))).shape == (0, looks.shape[1])


def test_the_bank_is_one_vector_per_identity() -> None:
    bank = LooksBank()
    for frame in range(5):
        seen = Detections(
            np.array([[0, 0, 9, 9]]), np.ones(1), np.zeros(1, np.int64), embeddings=np.array([[3.0, 4.0]])
        )
        one = np.ones(1, np.int64)
        tracks = Tracks(one * frame, one * 7, seen.xyxy, seen.scores, one * 0, one * 0)
        bank.add(tracks, frame, seen)
    assert list(bank.looks()) == [7] and bank.looks()[7].tolist() == pytest.approx([0.6, 0.8])
