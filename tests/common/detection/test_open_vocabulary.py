"""Grounding DINO and OWLv2: words become tokens at known places, and the contract in a small configuration."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from common.detection.contract import DetectorSettings
from common.detection.open_variants import OPEN
from common.detection.open_vocabulary import OpenVocabularyDetector
from common.detection.words import made_up, padded, published, sentences
from common.errors import PromptInvalid, WeightsMissing
from common.weights.options import SEEDED, EngineOptions
from tests.contract.detectors import DETECTOR_CHECKS, pictures

pytest.importorskip("transformers")

PROMPTS = ("person", "traffic light", "dog")
TEXT = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALLER = {
    "grounding-dino-tiny": {
        "backbone": ("SwinConfig", {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}),
        "config": {
            "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 64,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 12, "text_config": TEXT,
        },
        "side": 96,
        "short": 64,
    },
    "owlv2-base": {
        "config": {
            "projection_dim": 32,
            "text_config": TEXT,
            "vision_config": {**TEXT, "image_size": 64, "patch_size": 16},
        },
    },
}  # fmt: skip


def small(name, prompts=PROMPTS, options=EngineOptions(SEEDED, "cpu")):  # noqa: B008 - a frozen value
    changes = dict(SMALLER[name])
    if "backbone" in changes:
        kind, sizes = changes["backbone"]
        changes["backbone"] = (kind, {"out_indices": [2, 3, 4], **sizes})
    variant = replace(OPEN[name], **changes)
    return OpenVocabularyDetector(name, variant, options, DetectorSettings(prompts=prompts, floor=0.01))


@lru_cache(maxsize=1)
def built(name):
    return small(name)._ready()


def fresh(name, prompts=PROMPTS):
    detector = small(name, prompts)
    detector._model = built(name)
    return detector


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SMALLER)
def test_contract(name, check):
    check(lambda: fresh(name))


@pytest.mark.parametrize("name", SMALLER)
def test_it_finds_what_it_is_told(name):
    detector = fresh(name)
    assert detector.card.classes == PROMPTS and detector.card.open_vocabulary
    (found,) = detector.detect(pictures(1, 1))
    assert len(found) > 0
    with pytest.raises(PromptInvalid, match="name the things"):
        fresh(name, ()).detect(pictures(1, 1))


def test_other_words_give_other_scores():
    a, b = (fresh("owlv2-base", (word,)).detect(pictures(2, 1))[0] for word in ("cat", "lorry"))
    assert len(a) != len(b) or not np.allclose(a.scores, b.scores)


@pytest.mark.parametrize("name", SMALLER)
def test_missing_words_are_told(name, tmp_path):
    """A checkpoint without its tokenizer."""
    small(name)._ready().module.save_pretrained(tmp_path)
    detector = small(name, options=EngineOptions(str(tmp_path / "model.safetensors"), "cpu"))
    with pytest.raises(WeightsMissing, match="tokenizer of"):
        detector.detect(pictures(1, 1))


def test_published_words_are_read(tmp_path):
    """BERT's vocabulary beside the weights: numbers are line numbers."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "person", "light", "traffic", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    encode = published(tmp_path, "grounding-dino-tiny")
    assert encode("traffic lights") == [7, 6, 8] and encode("Person") == [5]


def test_phrases_become_sentences():
    encode = {"person": [7], "traffic light": [8, 9], "a b": [5, 6]}.__getitem__
    (one,) = sentences(["Person", "traffic light."], encode)
    assert one.tokens == (101, 7, 1012, 8, 9, 1012, 102)
    assert one.places == ((1,), (3, 4))
    several = sentences(["person"] * 10, encode, most=8)
    assert [len(s.tokens) for s in several] == [8, 8, 8, 4] and sum(len(s.places) for s in several) == 10
    for wrong in ("", " . "):
        with pytest.raises(PromptInvalid):
            sentences([wrong], lambda text: [1] * len(text.split()))
    with pytest.raises(PromptInvalid):
        sentences(["a b"], lambda _: [3] * 300)


def test_phrases_are_cut_and_filled():
    assert padded([5, 6], 1, 2, 6) == ([1, 5, 6, 2, 0, 0], [1, 1, 1, 1, 0, 0])
    assert padded(range(3, 30), 1, 2, 5) == ([1, 3, 4, 5, 2], [1] * 5)
    encode = made_up(30522)
    assert encode("Traffic  light") == encode("traffic light") and len(encode("traffic light")) == 2
    assert all(2000 <= n < 30522 for n in encode("a few words more"))
