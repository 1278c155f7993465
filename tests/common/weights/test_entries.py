"""The catalogue is data: what is wrong with it is told by file, entry and field, and harms no other family."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import EngineUnavailable, WeightsInvalid
from common.trackers import registry
from common.weights.entries import FOLDER, catalogue, load, read

GOOD = """
[[weights]]
name = "toy"
title = "Toy"
files = [{ name = "toy.pth", url = "https://example.org/toy.pth", size = 4, sha256 = "SHA" }]
code_licence = "MIT"
weights_licence = "CC-BY-NC-4.0"
non_commercial = true
memory_mib = 10
""".replace("SHA", "a" * 64)


def written(tmp_path: Path, text: str, name: str = "toy.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_an_entry_is_read(tmp_path: Path) -> None:
    (toy,) = read(written(tmp_path, GOOD))
    assert (toy.name, toy.family, toy.size, toy.memory_mib, toy.gated) == ("toy", "toy", 4, 10, False)
    assert toy.files[0].sha256 == "a" * 64
    assert toy.command == "python -m apps models download toy"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "toy"', 'name = "Toy tracker"', "no name for weights"),
        ('name = "toy"', "", r"entry 1 \(without a name\).*'name'"),
        ('title = "Toy"', 'title = ""', "title is empty"),
        ('title = "Toy"', "title = 3", "title = 3 is not of the type str"),
        ('title = "Toy"', 'title = "Toy"\ncolour = "red"', "unknown field colour"),
        ('title = "Toy"', 'title = "Toy"\nfamily = "x"', "unknown field family"),
        ("https://", "http://", "does not begin with https://"),
        ("https://example.org/toy.pth", "toy.pth", "names no host"),
        ("toy.pth", "../toy.pth", "no name for a file"),
        ("size = 4", "size = -4", "size"),
        ("size = 4", "size = true", "size = True"),
        ("size = 4", "bytes = 4", "unknown field bytes"),
        ("a" * 64, "A" * 64, "sha256"),
        ("files = [", "files = []\nother = [", "unknown field other"),
        ('"MIT"', '"free for all"', "no SPDX"),
        ("non_commercial = true", "non_commercial = false", "non-commercial"),
        ("non_commercial = true", "", "'non_commercial'"),
        ("[[weights]]", "[[weight]]", r"other than \[\[weights\]\]"),
        ("[[weights]]", "[[weights]", "cannot be read"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(WeightsInvalid, match=rf"toy\.toml.*{told}"):
        read(written(tmp_path, GOOD.replace(old, new, 1)))


def test_a_broken_family_leaves_the_others_be(tmp_path: Path) -> None:
    bad = written(tmp_path, GOOD.replace("title", "titel"), "bad.toml")
    found = load([bad, written(tmp_path, GOOD)])
    assert found.find("toy").title == "Toy"
    with pytest.raises(WeightsInvalid, match=r"'other'.*bad\.toml.*titel"):
        found.find("other")


def test_a_name_belongs_to_one_family(tmp_path: Path) -> None:
    found = load([written(tmp_path, GOOD, "a.toml"), written(tmp_path, GOOD, "b.toml")])
    assert found.entries["toy"].family == "a"
    assert found.problems == ("The catalogue file b.toml cannot be used: toy is in a.toml already.",)


def test_a_misspelt_name_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="Did you mean toy"):
        load([written(tmp_path, GOOD)]).find("toyy")


def test_pages_for_people_are_known(tmp_path: Path) -> None:
    (toy,) = read(written(tmp_path, GOOD.replace("https://example.org/toy.pth", "https://drive.google.com/file/d/1")))
    assert toy.files[0].by_hand


def test_the_projects_own_catalogue_is_sound() -> None:
    assert catalogue().problems == ()
    assert len(catalogue().entries) >= len(list(FOLDER.glob("*.toml")))


def test_every_trackers_weights_are_in_the_catalogue() -> None:
    for name in registry.names():
        card = registry.make(name).card
        if card.weights is not None:
            weights = catalogue().find(card.weights)
            assert card.weights_licence == weights.weights_licence, name
