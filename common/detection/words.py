"""Words as numbers for open-vocabulary detectors: the published tokenizer beside the weights, or, for seeded weights that
know no words anyway, a number made of each word's letters."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import PromptInvalid, WeightsInvalid, WeightsMissing

Encode = Callable[[str], list[int]]
"""A phrase's token numbers, without any that mark beginning and end."""

_START, _END, _STOP = 101, 102, 1012
"""BERT's [CLS], [SEP] and the full stop, which parts phrases."""
MOST_TOKENS = 256
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")


def published(folder: Path, name: str) -> Encode:
    """Reads the tokenizer's files. Raises `WeightsMissing` when they do not lie beside the weights."""
    from transformers import AutoTokenizer

    # without these files transformers makes a tokenizer that knows no words
    if not any((folder / file).is_file() for file in _VOCABULARIES):
        raise WeightsMissing(
            f"The tokenizer of {name} does not lie beside its weights. "
            f"Get both with: python -m apps models download {name}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsInvalid(f"The tokenizer beside the weights of {name} cannot be read: {error}") from error
    return lambda text: [int(n) for n in tokenizer(text, add_special_tokens=False)["input_ids"]]


def made_up(vocabulary: int) -> Encode:
    """One number per word, above those that mean something special."""
    low = min(2000, vocabulary // 2)
    return lambda text: [low + zlib.crc32(word.encode()) % (vocabulary - low - 10) for word in text.lower().split()]


@dataclass(frozen=True)
class Sentence:
    """tokens: of all phrases, parted by full stops. places: of each phrase, where its tokens are."""

    tokens: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]


def sentences(prompts: Sequence[str], encode: Encode, most: int = MOST_TOKENS) -> list[Sentence]:
    """The prompts in as few sentences of at most `most` tokens as their order allows (Grounding DINO's input).

    Raises `PromptInvalid` for a prompt without words or with more than fit.
    """
    made: list[Sentence] = []
    tokens: list[int] = [_START]
    places: list[tuple[int, ...]] = []
    for prompt in prompts:
        # a full stop within a prompt would part it
        phrase = [n for n in encode(prompt.lower().replace(".", " ").strip()) if n not in (_START, _END, _STOP)]
        if not phrase or len(phrase) + 3 > most:
            raise PromptInvalid(f"{prompt!r} cannot be looked for: name a thing in a few words.")
        if len(tokens) + len(phrase) + 2 > most:
            made.append(Sentence((*tokens, _END), tuple(places)))
            tokens, places = [_START], []
        places.append(tuple(range(len(tokens), len(tokens) + len(phrase))))
        tokens += [*phrase, _STOP]
    if places:
        made.append(Sentence((*tokens, _END), tuple(places)))
    return made


def padded(phrase: Sequence[int], start: int, end: int, length: int) -> tuple[list[int], list[int]]:
    """One phrase with its marks, cut or filled to a length, and which of it counts (CLIP's input)."""
    tokens = [start, *phrase[: length - 2], end]
    return tokens + [0] * (length - len(tokens)), [1] * len(tokens) + [0] * (length - len(tokens))
