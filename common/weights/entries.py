"""The catalogue of published weights: a TOML file per family, one `[[weights]]` table per set of weights.

    [[weights]]
    name = "xmem"                        # what `models download` takes
    title = "XMem"
    files = [{ name = "XMem.pth", url = "https://...", size = 249026057, sha256 = "..." }]
    code_licence = "MIT"                 # SPDX; "NOASSERTION" where none is stated
    weights_licence = "MIT"
    non_commercial = false
    gated = false                        # optional, as is all that follows
    paper = "https://arxiv.org/abs/2207.07115"
    input_size = "480p"
    memory_mib = 1500
    notes = "..."

The first file is the one that the network is filled from. `size` (bytes) and `sha256` stand there only where they are
published. `by_hand = true` marks a file that programs cannot fetch (a page with a button); `url` is then that page.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from common.errors import EngineUnavailable, WeightsInvalid

FOLDER = Path(__file__).parent / "catalogue"

T = TypeVar("T", "WeightsFile", "Weights")

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*( (AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BROWSER_ONLY = frozenset({"drive.google.com", "docs.google.com", "pan.baidu.com", "box.nju.edu.cn", "mega.nz"})


@dataclass(frozen=True)
class WeightsFile:
    """One file. size: bytes, None where it is not published. sha256: lower-case hex, None where it is not published.
    by_hand: `url` is a page that a person must visit; programs get a form or a warning there instead of the file.
    """

    name: str
    url: str
    size: int | None = None
    sha256: str | None = None
    by_hand: bool = False

    def __post_init__(self) -> None:
        _check(_FILE_NAME.fullmatch(self.name) is not None, f"{self.name!r} is no name for a file")
        _check(bool(urlsplit(self.url).hostname), f"the url {self.url!r} of {self.name} names no host")
        _check(self.size is None or self.size > 0, f"the size of {self.name} is not a number of bytes")
        _check(
            self.sha256 is None or _SHA256.fullmatch(self.sha256) is not None,
            f"the sha256 of {self.name} is not 64 lower-case hexadecimal digits",
        )
        if urlsplit(self.url).hostname in _BROWSER_ONLY:
            object.__setattr__(self, "by_hand", True)


@dataclass(frozen=True)
class Weights:
    """One set of weights, with what a person must know before using it.

    code_licence, weights_licence: SPDX expressions, "NOASSERTION" where none is stated. non_commercial: the weights'
    terms forbid or do not allow commercial use. gated: the publisher hands them out to accounts only. memory_mib: expected memory
    of the network at work, MiB. family: name of the catalogue file.
    """

    name: str
    title: str
    files: tuple[WeightsFile, ...]
    code_licence: str
    weights_licence: str
    non_commercial: bool
    gated: bool = False
    paper: str = ""
    input_size: str = ""
    memory_mib: int | None = None
    notes: str = ""
    family: str = ""

    def __post_init__(self) -> None:
        _check(_NAME.fullmatch(self.name) is not None, f"{self.name!r} is no name for weights (a-z, 0-9, . _ + -)")
        _check(bool(self.title), "the title is empty")
        _check(bool(self.files), "it has no files")
        _check(len({file.name for file in self.files}) == len(self.files), "two of its files have the same name")
        for licence in (self.code_licence, self.weights_licence):
            _check(_LICENCE.fullmatch(licence) is not None, f"{licence!r} is no SPDX licence expression")
        _check("-NC-" not in self.weights_licence or self.non_commercial, "its licence is non-commercial, its mark not")

    @property
    def size(self) -> int | None:
        """Bytes of all files, None where one of them is not published."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def command(self) -> str:
        """What a person types to get them."""
        return f"python -m apps models download {self.name}"


@dataclass(frozen=True)
class Catalogue:
    """entries: by name. problems: a sentence for every family whose file cannot be used."""

    entries: Mapping[str, Weights]
    problems: tuple[str, ...] = ()

    def find(self, name: str) -> Weights:
        """Raises `EngineUnavailable` when no weights have that name, `WeightsInvalid` when a broken file may be why."""
        if name in self.entries:
            return self.entries[name]
        if self.problems:
            raise WeightsInvalid(f"No weights are named {name!r} in what can be read. {' '.join(self.problems)}")
        near = get_close_matches(name, self.entries, 3)
        meant = f" Did you mean {' or '.join(near)}?" if near else " See: python -m apps models list"
        raise EngineUnavailable(f"No weights are named {name!r}.{meant}")


def read(path: Path) -> list[Weights]:
    """The entries of one family's file. Raises `WeightsInvalid`, naming the file, the entry and what is wrong."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WeightsInvalid(f"The catalogue file {path.name} cannot be read: {error}.") from error
    tables = tree.pop("weights", [])
    if tree or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise WeightsInvalid(f"The catalogue file {path.name} holds something other than [[weights]] tables.")
    found = []
    for number, table in enumerate(tables, 1):
        try:
            found.append(_weights(table, path.stem))
        except ValueError as error:
            which = f"entry {number} ({table.get('name', 'without a name')})"
            raise WeightsInvalid(f"The catalogue file {path.name} cannot be used: {which}: {error}.") from error
    return found


def load(paths: Iterable[Path]) -> Catalogue:
    """All families together. A file that is broken, or repeats another's name, is left out and told in `problems`."""
    entries: dict[str, Weights] = {}
    problems = []
    for path in paths:
        try:
            family = {}
            for weights in read(path):
                if weights.name in entries or weights.name in family:
                    other = entries.get(weights.name, weights).family
                    raise WeightsInvalid(
                        f"The catalogue file {path.name} cannot be used: {weights.name} is in {other}.toml already."
                    )
                family[weights.name] = weights
            entries.update(family)
        except WeightsInvalid as error:
            problems.append(str(error))
    return Catalogue(entries, tuple(problems))


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The one that comes with the project."""
    return load(sorted(FOLDER.glob("*.toml")))


def _weights(table: Mapping[str, Any], family: str) -> Weights:
    _check("family" not in table, "unknown field family")
    files = table.get("files")
    _check(isinstance(files, list) and all(isinstance(file, dict) for file in files), "files is not a list of tables")
    made = tuple(_make(WeightsFile, file) for file in table["files"])
    for file in made:
        _check(urlsplit(file.url).scheme == "https", f"the url of {file.name} does not begin with https://")
    return _make(Weights, {**table, "files": made, "family": family})


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str, "bool": bool, "int | None": int, "str | None": str, "tuple[WeightsFile, ...]": tuple,
}  # fmt: skip


def _make(kind: type[T], table: Mapping[str, Any]) -> T:
    known = {field.name: field for field in fields(kind)}
    _check(not (extra := table.keys() - known.keys()), f"unknown field {', '.join(sorted(extra))}")
    for name, value in table.items():
        wanted = _TYPES[str(known[name].type)]
        right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        _check(right, f"{name} = {value!r} is not of the type {known[name].type}")
    try:
        return kind(**table)
    except TypeError as error:
        raise ValueError(str(error).partition("() ")[2] or str(error)) from error


def _check(right: bool, message: str) -> None:
    if not right:
        raise ValueError(message)
