"""Files on disk by their content: a file's place is its SHA-256, so nothing a client sends becomes part of a path."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from apps.workbench.store.errors import Refused


def to_hex(hash_base64: str) -> str:
    """The file-system name of a hash as the SDK writes it: base64 of the 32 bytes of SHA-256. Raises `Refused`."""
    try:
        digest = base64.b64decode(hash_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("A hash must be base64 of a SHA-256 digest.") from error
    if len(digest) != hashlib.sha256().digest_size:
        raise Refused("A hash must be base64 of a SHA-256 digest.")
    return digest.hex()


_WORTH_SYNCING = 1 << 20


class Incoming:
    """A file while it arrives: written and hashed piece by piece. Leaving the block without `keep` deletes it."""

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="upload-")
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._digest = hashlib.sha256()
        self.path = Path(name)
        self.size = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def finish(self) -> str:
        """Closes the file; its hash, base64."""
        if not self._file.closed:
            self._file.flush()
            if self.size >= _WORTH_SYNCING:
                os.fsync(
                    self._file.fileno()
                )  # its hash will stand for it ever after, so it must be whole after a power cut
            self._file.close()
        return base64.b64encode(self._digest.digest()).decode()

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.discard()


class BlobFolder:
    """The folder of files by content."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left_over in self._incoming.iterdir():  # uploads that a crash cut off
            left_over.unlink(missing_ok=True)

    def path(self, hash_base64: str) -> Path:
        """Where the file of that hash lies (whether it is there or not)."""
        name = to_hex(hash_base64)
        return self._root / name[:2] / name

    def incoming(self) -> Incoming:
        return Incoming(self._incoming)

    def keep(self, incoming: Incoming) -> str:
        """Moves a received file to its place; its hash. A file that is there already stays as it is."""
        hash_base64 = incoming.finish()
        target = self.path(hash_base64)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            incoming.path.chmod(0o400)
            incoming.path.replace(target)
        incoming.discard()
        return hash_base64

    def remove(self, hash_base64: str) -> None:
        self.path(hash_base64).unlink(missing_ok=True)
