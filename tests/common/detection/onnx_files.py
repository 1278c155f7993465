"""Small ONNX models written byte by byte (protocol buffers), so that tests need no exporter.

Every model gives the outputs it is made with whatever it is shown, plus 0 x the mean of the picture: the picture does go
through it. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

_FLOAT, _INT64 = 1, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _tensor(name: str, value: np.ndarray) -> bytes:
    kind = _INT64 if value.dtype == np.int64 else _FLOAT
    dims = b"".join(_number(1, n) for n in value.shape)
    return dims + _number(2, kind) + _bytes(8, name) + _bytes(9, value.tobytes())


def _value(name: str, shape: tuple[int | str, ...], kind: int = _FLOAT) -> bytes:
    dims = b"".join(_bytes(1, _bytes(2, n) if isinstance(n, str) else _number(1, n)) for n in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def _node(kind: str, inputs: list[str], outputs: list[str], attributes: bytes = b"") -> bytes:
    return (
        b"".join(_bytes(1, n) for n in inputs) + b"".join(_bytes(2, n) for n in outputs) + _bytes(4, kind) + attributes
    )


def _ints(name: str, values: list[int]) -> bytes:
    return _bytes(5, _bytes(1, name) + b"".join(_number(8, v) for v in values) + _number(20, 7))


def _int(name: str, value: int) -> bytes:
    return _bytes(5, _bytes(1, name) + _number(3, value) + _number(20, 2))


def write(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    size: tuple[int, int],
    *,
    batch: int | str = "batch",
    sizes: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """outputs: by name, float32, with a first axis of 1 that grows with the batch. size: width and height of the input.
    sizes: a second input, (batch, 2) int64, as RT-DETR's export has; boxes are multiplied with it."""
    nodes, given, shown = [], [], []
    nodes.append(_node("ReduceMean", ["images"], ["mean"], _ints("axes", [1, 2, 3]) + _int("keepdims", 0)))
    given.append(_tensor("zero", np.zeros(1, np.float32)))
    nodes.append(_node("Mul", ["mean", "zero"], ["nothing"]))
    if sizes:
        nodes.append(_node("Cast", ["orig_target_sizes"], ["sizes"], _int("to", _FLOAT)))
        nodes.append(_node("Concat", ["sizes", "sizes"], ["twice"], _int("axis", 1)))
        given.append(_tensor("middle", np.array([1], np.int64)))
        nodes.append(_node("Unsqueeze", ["twice", "middle"], ["scale"]))
    for name, value in outputs.items():
        axes = list(range(1, value.ndim))
        given.append(_tensor(f"{name}_value", value.astype(np.float32)))
        given.append(_tensor(f"{name}_axes", np.array(axes, np.int64)))
        nodes.append(_node("Unsqueeze", ["nothing", f"{name}_axes"], [f"{name}_nothing"]))
        last = f"{name}_plain" if sizes and name == "boxes" else name
        nodes.append(_node("Add", [f"{name}_value", f"{name}_nothing"], [last]))
        if last != name:
            nodes.append(_node("Mul", [last, "scale"], [name]))
        shown.append(_value(name, (batch, *value.shape[1:])))
    inputs = [_value("images", (batch, 3, size[1], size[0]))]
    if sizes:
        inputs.append(_value("orig_target_sizes", (batch, 2), _INT64))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "made")
    graph += b"".join(_bytes(5, tensor) for tensor in given)
    graph += b"".join(_bytes(11, one) for one in inputs) + b"".join(_bytes(12, one) for one in shown)
    model = _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))
    for key, text in (metadata or {}).items():
        model += _bytes(14, _bytes(1, key) + _bytes(2, text))
    path.write_bytes(model)
    return path
