"""XMem's memory: pieces change nothing, room is never exceeded, the least used goes, the first frame stays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from common.networks.xmem.memory import MemoryBank, MemorySettings, similarity

TOKENS, OBJECTS, KEY, VALUE = 12, 2, 8, 6
SMALL = MemorySettings(working_frames=4, kept_frames=2, prototypes=5, long_tokens=16, top_k=7)


def bank(settings: MemorySettings = SMALL, dtype: torch.dtype = torch.float32) -> MemoryBank:
    return MemoryBank(settings, TOKENS, OBJECTS, KEY, VALUE, dtype, torch.device("cpu"))


def frame(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Key, shrinkage, selection and values of a picture of 3 x 4 tokens."""
    random = torch.Generator().manual_seed(seed)
    key, selection = torch.randn(KEY, 3, 4, generator=random), torch.rand(KEY, 3, 4, generator=random)
    shrinkage = 1 + torch.rand(3, 4, generator=random)
    return key, shrinkage, selection, torch.randn(OBJECTS, VALUE, 3, 4, generator=random)


def filled(frames: int, settings: MemorySettings = SMALL, permanent: int = 0) -> MemoryBank:
    made = bank(settings)
    for number in range(frames):
        key, shrinkage, selection, value = frame(number)
        if number:
            made.read(key, selection)
        made.write(key, shrinkage, selection, value, permanent=0 < number <= permanent)
    return made


def test_similarity_is_the_papers():
    key, shrinkage, _, _ = frame(1)
    query, _, chosen, _ = frame(2)
    k, s, q, e = key.flatten(1).T, shrinkage.flatten(), query.flatten(1).T, chosen.flatten(1).T
    direct = -(e[:, None] * (k[None] - q[:, None]).square()).sum(2) * s / KEY**0.5
    torch.testing.assert_close(similarity(k, s, q, e), direct)


def test_a_read_is_the_softmax_of_the_nearest():
    made = filled(3)
    query, _, chosen, _ = frame(9)
    keys, shrinkages, _, values = (torch.cat(t, -1) for t in zip(*(_flat(n) for n in range(3)), strict=True))
    alike = similarity(keys.T, shrinkages, query.flatten(1).T, chosen.flatten(1).T)
    bar = alike.topk(SMALL.top_k).values[:, -1:]
    weight = torch.softmax(torch.where(alike >= bar, alike, -torch.inf), 1)
    expected = (values @ weight.T).view(OBJECTS, VALUE, 3, 4)
    torch.testing.assert_close(made.read(query, chosen), expected)


def _flat(seed: int) -> tuple[torch.Tensor, ...]:
    return tuple(t.flatten(-2) for t in frame(seed))


@pytest.mark.parametrize("read_bytes", [1, 4 * 40 * 5, 2**20])
def test_pieces_change_nothing(read_bytes):
    whole, pieces = filled(20), filled(20, replace(SMALL, read_bytes=read_bytes))
    query, _, chosen, _ = frame(99)
    torch.testing.assert_close(whole.read(query, chosen), pieces.read(query, chosen))


@pytest.mark.parametrize("permanent", [0, 2])
def test_room_is_taken_at_the_start_and_never_exceeded(permanent):
    settings = replace(SMALL, extra_frames=permanent)
    made = bank(settings)
    room = made._value.data_ptr()
    sizes = []
    for number in range(40):
        key, shrinkage, selection, value = frame(number)
        if number:
            made.read(key, selection)
        made.write(key, shrinkage, selection, value, permanent=0 < number <= permanent)
        sizes.append((made.working_tokens, made.long_tokens))
        first = made._key[SMALL.long_tokens : SMALL.long_tokens + TOKENS]
        assert torch.equal(first, frame(0)[0].flatten(1).T), "the first frame stays"
    work, long = (max(column) for column in zip(*sizes, strict=True))
    assert work == (SMALL.working_frames - 1 + permanent) * TOKENS
    assert SMALL.long_tokens - SMALL.prototypes < long <= SMALL.long_tokens
    assert made._value.data_ptr() == room
    # Each consolidation takes work and gives prototypes: it happened again and again.
    assert sum(b[0] < a[0] for a, b in pairwise(sizes)) > 10


def test_eviction_drops_the_least_used_and_equals_together():
    made = filled(20)
    made._long = SMALL.long_tokens
    usage = torch.tensor([5.0, 1, 1, 1, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18])
    made._use[: made._long], made._life[: made._long] = 2 * usage, 2.0
    marks = torch.arange(float(made._long))
    made._shrinkage[: made._long] = marks
    made._make_room()
    # Five must go: 5, 1, 1, 1 and 7.
    assert made._shrinkage[: made._long].tolist() == marks[5:].tolist()
    made._use[: made._long] = 0.0
    made._long_room = made._long + SMALL.prototypes - 1
    made._make_room()
    assert made.long_tokens == 0


def test_permanent_frames_come_first_and_have_room():
    settings = replace(SMALL, extra_frames=1)
    made = filled(2, settings, permanent=1)
    with pytest.raises(ValueError, match="permanent"):
        made.write(*frame(2), permanent=True)
    made = filled(2, settings)
    with pytest.raises(ValueError, match="permanent"):
        made.write(*frame(2), permanent=True)


def test_forgetting_an_object_leaves_the_others_as_they_were():
    whole, part = filled(9), filled(9)
    part.keep([1])
    query, _, chosen, _ = frame(99)
    torch.testing.assert_close(part.read(query, chosen), whole.read(query, chosen)[1:])


@pytest.mark.parametrize("frames", [1, 3, 7, 23])
def test_a_saved_bank_goes_on_as_if_never_saved(frames):
    made, other = filled(frames), bank()
    other.load(made.save())
    for number in range(50, 60):
        key, shrinkage, selection, value = frame(number)
        assert torch.equal(made.read(key, selection), other.read(key, selection))
        made.write(key, shrinkage, selection, value)
        other.write(key, shrinkage, selection, value)


def test_a_snapshot_of_another_size_is_refused():
    saved = filled(9).save()
    with pytest.raises(ValueError, match="size"):
        MemoryBank(SMALL, TOKENS, OBJECTS + 1, KEY, VALUE, torch.float32, torch.device("cpu")).load(saved)
    with pytest.raises(ValueError, match="more"):
        bank(replace(SMALL, long_tokens=5)).load(filled(23).save())
