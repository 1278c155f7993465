"""Trees of plain values and arrays <-> bytes, for `Run.save` and `Tracker.load`.

The format is a NumPy zip archive (arrays, pickling off) with one JSON entry for the tree, so loading a snapshot from disk
can execute nothing. Equal trees give equal bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

Tree = Any
"""None, bool, int, float, str, bytes, NumPy arrays and scalars, and lists, tuples and string-keyed dicts of trees."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(tree: Tree) -> bytes:
    """Serialise. Raises TypeError for a value that is none of the above.

    >>> unpack(pack({"a": (1, np.arange(3)), "b": [None, b"x"]}))
    {'a': (1, array([0, 1, 2])), 'b': [None, b'x']}
    """
    arrays: list[np.ndarray] = []
    tree_json = json.dumps(_encode(tree, arrays), separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("tree.json", _EPOCH), tree_json)
        for number, array in enumerate(arrays):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{number}.npy", _EPOCH), entry.getvalue())
    return out.getvalue()


def unpack(data: bytes) -> Tree:
    """The tree that `pack` got. Raises ValueError when the bytes are not a whole snapshot."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            tree = json.loads(archive.read("tree.json"))

            def array(number: int) -> np.ndarray:
                with archive.open(f"{number}.npy") as entry:
                    return np.lib.format.read_array(entry, allow_pickle=False)

            return _decode(tree, array)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"not a whole snapshot: {error}") from error


def _encode(value: Tree, arrays: list[np.ndarray]) -> Any:
    """The tree in JSON's terms; its arrays are appended to `arrays` and referred to by number.

    A plain function: a nested one that calls itself is a reference cycle, which would keep the arrays of every snapshot
    alive until Python happens to collect its garbage.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise TypeError("arrays of objects cannot be saved")
        arrays.append(np.asarray(value))
        return {"scalar" if isinstance(value, np.generic) else "array": len(arrays) - 1}
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, np.uint8))
        return {"bytes": len(arrays) - 1}
    if isinstance(value, list):
        return [_encode(v, arrays) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(v, arrays) for v in value]}
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise TypeError("keys of a saved dict are strings")
        return {"dict": [[k, _encode(v, arrays)] for k, v in value.items()]}
    raise TypeError(f"cannot save a {type(value).__name__}")


def _decode(value: Any, array: Any) -> Tree:
    if isinstance(value, list):
        return [_decode(v, array) for v in value]
    if not isinstance(value, dict):
        return value
    (kind, content), *_ = value.items()
    match kind:
        case "array":
            return array(content)
        case "scalar":
            return array(content)[()]
        case "bytes":
            return array(content).tobytes()
        case "tuple":
            return tuple(_decode(v, array) for v in content)
        case "dict":
            return {k: _decode(v, array) for k, v in content}
    raise ValueError(f"unknown entry {kind!r} in a snapshot")
