"""A folder of files with a bound on their bytes, shared by processes: who uses what, and what has to go."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class Hold:
    """A lock on a file of its own, held until `release`. Works between processes and within one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def note(self, text: str) -> None:
        """Writes into the lock file, for others to read."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def hold(path: Path, *, shared: bool = False, wait: bool = True) -> Hold | None:
    """Locks `path`, which is made when missing. None when another holds it and wait is False."""
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, mode)
            here = path.stat().st_ino == os.fstat(descriptor).st_ino
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            here = False
        if here:
            return Hold(descriptor)
        os.close(descriptor)  # removed while we waited for it: lock the one that stands there now


class Shelf:
    """Files by key, at most max_bytes of them.

    Of each: `KEY.video` (whole) or `KEY.part` (being fetched), `KEY.use` (locked shared by everyone who has it open; its
    time is that of the last use) and `KEY.load` (locked by the one who fetches it; holds the size it will have).
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is 0 or more, got {max_bytes}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._max_bytes = folder, max_bytes

    def file(self, key: str) -> Path:
        return self._folder / f"{key}.video"

    def part(self, key: str) -> Path:
        return self._folder / f"{key}.part"

    def use(self, key: str) -> Hold:
        """Keeps the file from being removed until released, and marks it as just used."""
        path = self._folder / f"{key}.use"
        held = hold(path, shared=True)
        assert held is not None  # it waits
        os.utime(path)
        return held

    def load(self, key: str) -> Hold | None:
        """The right to fetch the file; None while another has it."""
        return hold(self._folder / f"{key}.load", wait=False)

    def bytes(self) -> int:
        """What the files take, those being fetched with the size that they will have."""
        return sum(size for _, _, size in self._entries())

    def admit(self, key: str, size: int, loading: Hold) -> bool:
        """Makes room for a file of that size by removing the least recently used that nobody has open, and takes it.

        False, with nothing removed, when it cannot be made to fit. loading: from `load`.
        """
        gate = hold(self._folder / "gate.lock")
        assert gate is not None
        try:
            others = [entry for entry in self._entries() if entry[1] != key]
            excess = sum(entry[2] for entry in others) + size - self._max_bytes
            chosen: list[tuple[str, Hold]] = []
            for _, other, freed in sorted(others):
                if excess <= 0:
                    break
                unused = hold(self._folder / f"{other}.use", wait=False)
                if unused is not None:
                    chosen.append((other, unused))
                    excess -= freed
            fits = excess <= 0
            for other, unused in chosen:
                if fits:
                    self._remove(other)
                unused.release()
            if fits:
                loading.note(str(size))
            return fits
        finally:
            gate.release()

    def _remove(self, key: str) -> None:
        for suffix in ("video", "part", "load", "use"):
            (self._folder / f"{key}.{suffix}").unlink(missing_ok=True)

    def _entries(self) -> list[tuple[float, str, int]]:
        """(last use, key, bytes) of every file."""
        found = []
        for path in self._folder.iterdir():
            if path.suffix not in (".video", ".part"):
                continue
            with suppress(FileNotFoundError):  # another process may remove or finish it meanwhile
                size, used = path.stat().st_size, path.stat().st_mtime
                with suppress(FileNotFoundError):
                    used = path.with_suffix(".use").stat().st_mtime
                if path.suffix == ".part":
                    with suppress(FileNotFoundError, ValueError):
                        size = max(size, int(path.with_suffix(".load").read_text()))
                found.append((used, path.stem, size))
        return found
