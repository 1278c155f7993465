"""Checkpoint files -> tensors and plain containers, without running anything that is in them.

PyTorch's zip format (since 1.6), its older stream format, and safetensors, told apart by content. See `pickles` for what
a file may hold: training settings, optimisers and whole modules pickled beside the tensors come out as inert `Stub`s.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Tensor

from common.errors import WeightsInvalid, WeightsMissing
from common.weights import pickles
from common.weights.pickles import Stub

__all__ = ["Stub", "read"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_PIECE = 1 << 24

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_DTYPES = {str(dtype).partition(".")[2]: dtype for dtype in _STORAGES.values()}
_UNTYPED = torch.uint8


def read(path: str | Path) -> dict[str, Any]:
    """What a .pt, .pth, .pth.tar, .bin, .ckpt or .safetensors file holds: tensors on the CPU (they share no memory with the
    file), numpy arrays, plain containers and values; objects of other classes as `Stub`.

    Raises `WeightsMissing` when there is no such file, `WeightsInvalid` when it is damaged, hostile, or of another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _read(file, path.stat().st_size)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WeightsMissing(f"There is no weights file {path}.") from error
    except OSError as error:
        raise WeightsInvalid(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    except WeightsInvalid as error:
        raise WeightsInvalid(f"The weights file {path} cannot be used: {error}.") from error.__cause__
    if not isinstance(content, dict):
        raise WeightsInvalid(f"The weights file {path} holds no table of tensors but {type(content).__name__}.")
    return content


def _read(file: IO[bytes], size: int) -> Any:
    head = file.read(16)
    file.seek(0)
    if head.startswith(b"PK"):
        return _read_zip(file, size)
    if head[:1] == b"\x80":
        return _read_stream(_Bounded(file, size), size)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return _read_safetensors(file, size)
    if head.startswith((b"<", b"version https://")):
        raise WeightsInvalid("it is a web page or a pointer, not the file itself; download it again")
    raise WeightsInvalid("it is no PyTorch or safetensors file")


# --- storages and tensors


@dataclass(frozen=True)
class _StorageType:
    """Stands for torch.FloatStorage and its like. itemsize: bytes; 1 for untyped bytes."""

    dtype: torch.dtype

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize


@dataclass(frozen=True)
class _Storage:
    """flat: uint8 (bytes,). dtype: of the numbers in it."""

    flat: Tensor
    dtype: torch.dtype

    def viewed(self, dtype: torch.dtype) -> Tensor:
        return self.flat[: self.flat.numel() // dtype.itemsize * dtype.itemsize].view(dtype)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise WeightsInvalid(f"a size of {value!r}")
    return value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A view of the storage; refused where it would reach over its end."""
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise WeightsInvalid("a tensor without numbers")
    flat = storage.viewed(dtype or storage.dtype)
    at, shape, steps = _count(offset), [_count(n) for n in size], [_count(n) for n in stride]
    last = at + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if math.prod(shape) else -1
    if last >= flat.numel():
        raise WeightsInvalid("a tensor reaches over the end of its numbers")
    return torch.as_strided(flat, shape, steps, at) if last >= 0 else flat.new_empty(shape)


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    return _tensor(storage, offset, size, stride)


def _rebuild_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    if not isinstance(dtype, torch.dtype):
        raise WeightsInvalid("a tensor of an unknown kind of number")
    return _tensor(storage, offset, size, stride, dtype)


def _parameter(data: Any = None, *rest: Any) -> Any:
    return data if isinstance(data, Tensor) else Stub("torch.nn.parameter.Parameter")


def _subclass(build: Any, kind: Any, arguments: Any, *rest: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor of a subclass, or with attributes; its numbers are what counts."""
    if isinstance(build, pickles._Known) and isinstance(arguments, tuple):
        return build.build(*arguments)
    return Stub("tensor subclass")


class _PendingArray:
    """numpy makes arrays in two steps: an empty one, then its state."""

    def __init__(self, *arguments: Any) -> None:
        self.array = np.zeros(0)

    def receive_pickled_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            self.array = np.zeros(0)  # an array of objects
            return
        self.array = np.frombuffer(data, dtype.numpy).reshape(shape, order="F" if fortran else "C").copy()


class _Dtype:
    """numpy.dtype of plain numbers."""

    def __init__(self, code: Any, *rest: Any) -> None:
        if not isinstance(code, str) or code[:1] not in ("b", "i", "u", "f") or not code[1:].isdigit():
            raise WeightsInvalid(f"numbers of the kind {code!r}")
        self.numpy = np.dtype(code)

    def receive_pickled_state(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(state[1])


def _dtype(code: Any, *rest: Any) -> Any:
    """Kinds of numbers that are not plain (text, objects) are no tensors' business."""
    return _Dtype(code) if isinstance(code, str) and code[:1] in "biuf" and code[1:].isdigit() else Stub("numpy.dtype")


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        return Stub("numpy scalar")
    return np.frombuffer(data, dtype.numpy)[0].item()


def _numbers(items: Any = ()) -> tuple[Any, ...]:
    return tuple(items)


def _names() -> dict[str, Any]:
    """What the names in a checkpoint stand for."""
    names = pickles.plain()
    for module in ("torch", "torch.cuda", "torch.storage"):
        names |= {f"{module}.{name}": _StorageType(dtype) for name, dtype in _STORAGES.items()}
    names["torch.storage.UntypedStorage"] = names["torch.UntypedStorage"] = _StorageType(_UNTYPED)
    names |= {f"torch.{name}": dtype for name, dtype in _DTYPES.items()}
    names |= {
        "torch._utils._rebuild_tensor": _rebuild,
        "torch._utils._rebuild_tensor_v2": _rebuild,
        "torch._utils._rebuild_tensor_v3": _rebuild_v3,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.nn.parameter.Parameter": _parameter,
        "torch._tensor._rebuild_from_type_v2": _subclass,
        "torch.Size": _numbers,
        "torch.device": lambda *parts: str(parts[0]) if parts else "cpu",
        "numpy.dtype": _dtype,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names |= {f"{module}._reconstruct": _PendingArray, f"{module}.scalar": _scalar}
    return names


def _finish(value: Any) -> Any:
    """Replaces what numpy left pending. Iterative: a file may nest as deep as it likes."""
    todo, seen = [value], set()
    while todo:
        holder = todo.pop()
        if id(holder) in seen or not isinstance(holder, dict | list):
            continue
        seen.add(id(holder))
        for key, child in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if isinstance(child, _PendingArray):
                holder[key] = child.array
            elif isinstance(child, Stub):
                todo.append(child.state)
            else:
                todo.append(child)
    return value


# --- the zip format


def _read_zip(file: IO[bytes], size: int) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive, size)
    except (zipfile.BadZipFile, LookupError, ValueError, EOFError, RuntimeError, OverflowError, struct.error) as error:
        raise WeightsInvalid(f"it is damaged ({error})") from error


def _read_archive(archive: zipfile.ZipFile, size: int) -> Any:
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        raise WeightsInvalid("its parts are packed in a way that PyTorch does not use")
    names = {entry.filename for entry in entries}
    pickled = [name for name in names if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
    if len(pickled) != 1:
        raise WeightsInvalid("it is a zip file, but no PyTorch checkpoint")
    prefix = pickled[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in names:
        raise WeightsInvalid("it is a compiled program (TorchScript), not a table of weights")
    if f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") != b"little":
        raise WeightsInvalid("it was written on a machine of another byte order")
    storages: dict[str, _Storage] = {}

    def persistent(identity: Any) -> Any:
        dtype, key, count, _ = _storage_identity(identity)
        if key not in storages:
            entry = archive.getinfo(f"{prefix}data/{key}")
            flat = torch.empty(entry.file_size, dtype=torch.uint8)
            with archive.open(entry) as source:
                _fill(source, flat)
            storages[key] = _Storage(flat, dtype.dtype)
        if count * dtype.itemsize > storages[key].flat.numel():
            raise WeightsInvalid("it is damaged: fewer numbers than announced")
        return _Storage(storages[key].flat, dtype.dtype)

    return _finish(pickles.load(io.BytesIO(archive.read(pickled[0])), _names(), persistent))


def _storage_identity(identity: Any) -> tuple[_StorageType, str, int, Any]:
    """Persistent ids are ("storage", type, key, location, numbers[, view])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise WeightsInvalid("a reference to something other than numbers")
    kind, key = identity[1], identity[2]
    if not isinstance(kind, _StorageType) or not isinstance(key, str):
        raise WeightsInvalid("numbers of an unknown kind")
    return kind, key, _count(identity[4]), identity[5] if len(identity) == 6 else None


def _fill(source: Any, flat: Tensor) -> None:
    """Reads as many bytes as `flat`, uint8 (n,), has room for."""
    room = memoryview(cast(Any, flat.numpy()))
    done = 0
    while done < len(room):
        got = source.readinto(room[done : done + _PIECE])
        if not got:
            raise WeightsInvalid("it ends too early: the download was not complete")
        done += got
    if hasattr(source, "read1"):
        source.read1(1)  # lets the archive compare its checksum


# --- the older stream format


class _Bounded:
    """The file, never asked for more than it has: a damaged length must not allocate."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def tell(self) -> int:
        return self._file.tell()

    def read(self, count: int = -1) -> bytes:
        left = self._size - self._file.tell()
        return self._file.read(min(count, left) if count >= 0 else left)

    def readline(self) -> bytes:
        return self._file.readline()

    def readinto(self, buffer: Any) -> int:
        return cast(int, self._file.readinto(buffer))  # type: ignore[attr-defined]


def _read_stream(file: _Bounded, size: int) -> Any:
    """Five pickles (magic, version, machine, content, keys), then for each key a count (int64) and the numbers."""
    none = partial(pickles.load, known=pickles.plain(), persistent=_no_storage)
    if none(cast(IO[bytes], file)) != _LEGACY_MAGIC:
        raise WeightsInvalid("it is a pickle, but no PyTorch checkpoint")
    if none(cast(IO[bytes], file)) != _LEGACY_VERSION:
        raise WeightsInvalid("it was written by an unknown version of PyTorch")
    machine = none(cast(IO[bytes], file))
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise WeightsInvalid("it was written on a machine of another byte order")
    storages: dict[str, tuple[_Storage, int]] = OrderedDict()
    room = size

    def persistent(identity: Any) -> Any:
        nonlocal room
        if isinstance(identity, tuple) and len(identity) == 4 and identity[0] == "module":
            return identity[1]  # a class with its source text, which is not read
        dtype, key, count, view = _storage_identity(identity)
        if key not in storages:
            room -= count * dtype.itemsize
            if room < 0:
                raise WeightsInvalid("it is damaged: more numbers announced than it holds")
            flat = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
            storages[key] = _Storage(flat, dtype.dtype), dtype.itemsize
        storage = storages[key][0]
        if view is None:
            return storage
        start, length = _count(view[1]) * dtype.itemsize, _count(view[2]) * dtype.itemsize
        return _Storage(storage.flat[start : start + length], dtype.dtype)

    content = _finish(pickles.load(cast(IO[bytes], file), _names(), persistent))
    keys = none(cast(IO[bytes], file))
    if not isinstance(keys, list) or set(keys) != set(storages):
        raise WeightsInvalid("it is damaged: its parts do not belong together")
    for key in keys:
        storage, itemsize = storages[key]
        if int.from_bytes(file.read(8), "little") * itemsize != storage.flat.numel():
            raise WeightsInvalid("it is damaged: its numbers are not as many as announced")
        _fill(file, storage.flat)
    return content


def _no_storage(identity: Any) -> Any:
    raise WeightsInvalid("numbers where none belong")


# --- safetensors


def _read_safetensors(file: IO[bytes], size: int) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(file.read())
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsInvalid(f"it is damaged ({error})") from error
