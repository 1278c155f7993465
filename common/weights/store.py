"""Where weights lie on this machine: fetched once, verified, shared by all processes.

A folder for each name of the catalogue holds its files, and beside each file `<file>.sha256`: what it was when it came.
Environment: VIDEO_TRACKING_WEIGHTS (the folder; default: the user's cache folder), VIDEO_TRACKING_WEIGHTS_MIRROR (a folder
to copy from, laid out alike or flat, asked before the network), VIDEO_TRACKING_OFFLINE=1 (never use the network),
HF_TOKEN (sent to huggingface.co for gated weights).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from common.errors import Interrupted, OutputUnusable, WeightsInvalid, WeightsMissing
from common.weights.entries import Weights, WeightsFile

if TYPE_CHECKING:
    from common.weights.transfer import Progress, Rules

FOLDER = "VIDEO_TRACKING_WEIGHTS"
MIRROR = "VIDEO_TRACKING_WEIGHTS_MIRROR"
OFFLINE = "VIDEO_TRACKING_OFFLINE"
TOKEN = "HF_TOKEN"

Status = Literal["here", "in the mirror", "not here"]

_PIECE = 1 << 20


@dataclass(frozen=True)
class Store:
    """folder: where files are kept. mirror: where they are copied from. offline: the network is not used.
    token: of an account at huggingface.co. rules: of transfers; None = https to public machines only.
    """

    folder: Path
    mirror: Path | None = None
    offline: bool = False
    token: str | None = None
    rules: Rules | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Store:
        mirror = env.get(MIRROR)
        return cls(
            folder=Path(env[FOLDER]).expanduser() if env.get(FOLDER) else _cache_folder(env),
            mirror=Path(mirror).expanduser() if mirror else None,
            offline=env.get(OFFLINE, "").lower() not in ("", "0", "false", "no"),
            token=env.get(TOKEN) or None,
        )

    def path(self, weights: Weights, file: WeightsFile) -> Path:
        """Where the file lies, or would lie."""
        return self.folder / weights.name / file.name

    def status(self, weights: Weights) -> Status:
        """At a glance: whether the files exist; nothing is hashed."""
        if all(self.path(weights, file).is_file() for file in weights.files):
            return "here"
        if all(self.path(weights, f).is_file() or self._in_mirror(weights, f) for f in weights.files):
            return "in the mirror"
        return "not here"

    def require(self, weights: Weights) -> list[Path]:
        """The files, each checked byte by byte; those in the mirror are copied first.

        Raises `WeightsMissing` with the command that downloads them, `WeightsInvalid` when they are not what they were.
        """
        if self.status(weights) == "not here":
            raise WeightsMissing(f"The weights of {weights.title} are not on this machine. {self._advice(weights)}")
        return self._complete(weights)

    def download(
        self, weights: Weights, progress: Progress | None = None, stop: threading.Event | None = None
    ) -> list[Path]:
        """Makes them be here, verified. Waits while another process downloads the same; continues what broke earlier.

        progress: told bytes done and in all, for one file after another. stop: ends it with `Interrupted`.
        Raises `WeightsMissing`, `WeightsInvalid`, `OutputUnusable`.
        """
        return self._complete(weights, progress, stop, fetch=True)

    def verify(self, weights: Weights) -> None:
        """Hashes what is here again. Raises as `require`, but copies nothing."""
        for file in weights.files:
            path = self.path(weights, file)
            if not path.is_file():
                raise WeightsMissing(f"{file.name} of {weights.title} is not on this machine. {self._advice(weights)}")
            _check(path, path, weights, file)

    def _complete(
        self,
        weights: Weights,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
        fetch: bool = False,
    ) -> list[Path]:
        paths = [self.path(weights, file) for file in weights.files]
        known = zip(weights.files, paths, strict=True)
        if all(path.is_file() and (file.sha256 or _record_of(path).is_file()) for file, path in known):
            self.verify(weights)  # needs no lock, so that a folder that cannot be written will do
            return paths
        try:
            with _locked(self.folder / weights.name, stop):
                for file, path in zip(weights.files, paths, strict=True):
                    if path.is_file():
                        _check(path, path, weights, file)  # put there by hand
                    else:
                        self._obtain(weights, file, path, progress, stop, fetch)
        except OSError as error:
            raise OutputUnusable(f"Weights cannot be kept in {self.folder}: {error.strerror or error}.") from error
        return paths

    def _obtain(
        self,
        weights: Weights,
        file: WeightsFile,
        path: Path,
        progress: Progress | None,
        stop: threading.Event | None,
        fetch: bool,
    ) -> None:
        part = path.with_name(path.name + ".part")
        mirrored = self._in_mirror(weights, file)
        if mirrored:
            part = path.with_name(path.name + ".copy")
            _copy(mirrored, part, progress, stop)
        elif not fetch or self.offline or file.by_hand:
            raise WeightsMissing(f"{file.name} of {weights.title} is not on this machine. {self._advice(weights)}")
        else:
            self._fetch(weights, file, part, progress, stop)
        try:
            _check(part, path, weights, file)
        except WeightsInvalid:
            part.unlink()  # the next attempt begins anew
            raise
        part.replace(path)

    def _fetch(
        self,
        weights: Weights,
        file: WeightsFile,
        part: Path,
        progress: Progress | None,
        stop: threading.Event | None,
    ) -> None:
        from common.weights.transfer import Rules, fetch  # the web client takes a moment to load

        rules = self.rules or Rules()
        if self.token and weights.gated and urlsplit(file.url).hostname == "huggingface.co":
            rules = replace(rules, headers={"authorization": f"Bearer {self.token}"})
        resumed = part.exists()
        fetch(file.url, part, rules, file.size, progress, stop)
        if resumed and file.sha256 is not None and _digest(part) != file.sha256:
            part.unlink()  # the parts were not of one file
            fetch(file.url, part, rules, file.size, progress, stop)

    def _in_mirror(self, weights: Weights, file: WeightsFile) -> Path | None:
        if self.mirror is None:
            return None
        places = (self.mirror / weights.name / file.name, self.mirror / file.name)
        return next((place for place in places if place.is_file()), None)

    def _advice(self, weights: Weights) -> str:
        missing = [f for f in weights.files if not self.path(weights, f).is_file() and not self._in_mirror(weights, f)]
        by_hand = [file for file in missing if file.by_hand]
        if by_hand:
            file = by_hand[0]
            place = self.path(weights, file)
            return (
                f"Programs cannot fetch it: open {file.url} in a browser and save {file.name} as {place}, "
                f"then run: {weights.command}"
            )
        if self.offline:
            names = " and ".join(str(self.path(weights, file)) for file in missing)
            return f"{OFFLINE} is set: unset it and run {weights.command}, or bring the file to {names}."
        return f"Get them with: {weights.command}"


def _cache_folder(env: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(env["XDG_CACHE_HOME"]) if env.get("XDG_CACHE_HOME") else Path.home() / ".cache"
    return base / "video-tracking" / "weights"


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def recorded(path: Path) -> str | None:
    """SHA-256 (hex) that the file had when it came; None where it never came or where the published one is what counts."""
    try:
        words = _record_of(path).read_text().split()
    except FileNotFoundError:
        return None
    return words[0] if words else None


def _check(file_path: Path, place: Path, weights: Weights, file: WeightsFile) -> None:
    """Compares `file_path`, which lies or is to lie at `place`, with what is published and recorded; records it if new."""
    size = file_path.stat().st_size
    if file.size is not None and size != file.size:
        raise WeightsInvalid(
            f"{place} has {size} bytes, not the {file.size} that are published. {_mend(place, weights)}"
        )
    digest, known = _digest(file_path), recorded(place)
    if file.sha256 is not None and digest != file.sha256:
        raise WeightsInvalid(
            f"{place} is not the file that was published (SHA-256 {digest[:16]}...). {_mend(place, weights)}"
        )
    if file.sha256 is not None or known == digest:
        return
    if known is not None:
        raise WeightsInvalid(
            f"{place} has changed since it first came (SHA-256 {digest[:16]}..., was {known[:16]}...). {_mend(place, weights)} "
            f"If the publisher has changed it and you trust that, delete {_record_of(place)} too."
        )
    record = _record_of(place)
    draft = record.with_name(f"{record.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(f"{digest}  {place.name}\n")
    draft.replace(record)


def _mend(place: Path, weights: Weights) -> str:
    return f"Delete it and run: {weights.command}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path, progress: Progress | None, stop: threading.Event | None) -> None:
    total, done = source.stat().st_size, 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(_PIECE):
            if stop is not None and stop.is_set():
                raise Interrupted("The copy was ended; the same command starts it again.")
            writer.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)


@contextmanager
def _locked(folder: Path, stop: threading.Event | None) -> Iterator[None]:
    """One process (and one thread) at a time works in the folder; a process that dies gives it free."""
    folder.mkdir(parents=True, exist_ok=True)
    stop = stop or threading.Event()
    with (folder / ".lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(0.2):
                    raise Interrupted("Another process works on the same weights.") from None
        yield
