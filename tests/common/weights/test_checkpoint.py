"""Checkpoints of every kind are read; nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import io
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from common.errors import WeightsInvalid, WeightsMissing
from common.weights.checkpoint import Stub, read

FORMATS = ["zip", "stream"]


def save(content: Any, path: Path, kind: str = "zip") -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    return {
        "float": base,
        "view": base[1:3, ::2],
        "transposed": base.T,
        "half": torch.randn(3).half(),
        "bfloat": torch.randn(3).bfloat16(),
        "double": torch.randn(2).double(),
        "long": torch.arange(5),
        "int": torch.arange(5, dtype=torch.int32),
        "byte": torch.arange(5, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_come_back_as_they_were(tmp_path: Path, kind: str) -> None:
    wanted = tensors()
    found = read(save(wanted, tmp_path / "w.pth", kind))
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_safetensors_come_back_as_they_were(tmp_path: Path) -> None:
    wanted = {name: tensor.contiguous() for name, tensor in tensors().items() if name != "view"}
    wanted["float"] = wanted["float"].clone()
    save_file(wanted, tmp_path / "w.safetensors")
    found = read(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


class Colour(enum.Enum):
    RED = 1


class Settings:
    def __init__(self) -> None:
        self.rate = 0.5
        self.module = None


class Meter(dict):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("kind", FORMATS)
def test_training_objects_beside_the_tensors_become_stubs(tmp_path: Path, kind: str) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    settings = Settings()
    settings.module = network  # type: ignore[assignment]
    meter = Meter(loss=1)
    content = {
        "net": network.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "settings": settings,
        "arguments": argparse.Namespace(depth=3),
        "meter": meter,
        "stats": collections.OrderedDict(a=1),
        "counts": collections.defaultdict(list, {"x": [1]}),
        "colour": Colour.RED,
        "folder": Path("somewhere"),
        "when": datetime.datetime(2020, 1, 1),
        "kind": Settings,
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "size": torch.Size([2, 3]),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.float64(2.5),
        "set": {1, 2},
        "tuple": (1, "a", None, 2.5, True, b"x", 1 << 80),
        "optimizer": torch.optim.Adam(network.parameters()).state_dict(),
    }
    found = read(save(content, tmp_path / "w.pth.tar", kind))
    assert torch.equal(found["net"]["0.weight"], network[0].weight)
    assert torch.equal(found["parameter"], torch.ones(2))
    for name in ("settings", "arguments", "meter", "colour", "folder", "when"):
        assert isinstance(found[name], Stub), name
    assert found["settings"].name.endswith(".Settings")
    assert found["settings"].state["rate"] == 0.5
    np.testing.assert_array_equal(found["array"], content["array"])
    assert (found["scalar"], found["set"], found["tuple"]) == (2.5, {1, 2}, content["tuple"])
    assert (found["dtype"], found["device"], found["size"]) == (torch.float16, "cpu", (2, 3))
    assert found["counts"] == {"x": [1]}
    assert found["optimizer"]["param_groups"][0]["lr"] == 0.001


RAN: list[str] = []


def run_me(*arguments: Any) -> None:
    RAN.append(str(arguments))


class Hostile:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


ATTACKS = {
    "system": Hostile(os.system, "exit 3"),
    "eval": Hostile(eval, "1+1"),
    "exec": Hostile(exec, "import os"),
    "getattr": Hostile(getattr, Settings, "x"),
    "open": Hostile(open, "x", "w"),
    "popen": Hostile(subprocess.Popen, ["true"]),
    "import": Hostile(__import__, "os"),
    "exit": Hostile(sys.exit, 1),
    "unpickle": Hostile(pickle.loads, b"N."),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_names_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = save({"net": torch.ones(2), "bad": ATTACKS[name]}, tmp_path / "w.pth", kind)
    with pytest.raises(WeightsInvalid, match="no place in a checkpoint"):
        read(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_other_peoples_functions_are_never_called(tmp_path: Path, kind: str) -> None:
    save({"bad": Hostile(run_me, "x"), "net": torch.ones(1)}, tmp_path / "w.pth", kind)
    found = read(tmp_path / "w.pth")
    assert isinstance(found["bad"], Stub)
    assert RAN == []


def test_no_module_of_a_checkpoint_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("evil_settings")
    settings = type("EvilSettings", (), {"__module__": "evil_settings"})
    module.EvilSettings = settings  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "evil_settings", module)
    save({"s": settings()}, tmp_path / "w.pth")
    monkeypatch.delitem(sys.modules, "evil_settings")
    (tmp_path / "evil_settings.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert read(tmp_path / "w.pth")["s"].name == "evil_settings.EvilSettings"


def archive(path: Path, pickled: bytes, data: bytes = b"\0" * 8, **kwargs: Any) -> Path:
    with zipfile.ZipFile(path, "w", **kwargs) as out:
        out.writestr("archive/data.pkl", pickled)
        out.writestr("archive/byteorder", "little")
        out.writestr("archive/data/0", data)
        out.writestr("archive/version", "3\n")
    return path


def tensor_pickle(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 2) -> bytes:
    """{"w": tensor over storage 0}, written instruction by instruction."""

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = (
        b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + text("cpu")
        + b"J"
        + struct.pack("<i", count)
        + b"tQ"
    )
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + struct.pack("<i", offset)
    return (
        b"\x80\x02}"
        + text("w")
        + call
        + ints(size)
        + ints(stride)
        + b"\x89ccollections\nOrderedDict\n)Rt"
        + b"R"
        + b"s."
    )


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.pth", tensor_pickle(0, (2,), (1,)), struct.pack("<ff", 1.5, -2))
    assert read(path)["w"].tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("offset", "size", "stride", "count"),
    [(0, (3,), (1,), 2), (1, (2,), (1,), 2), (-1, (1,), (1,), 2), (0, (2,), (-1,), 2), (0, (2, 2), (1, 1), 2),
     (0, (2,), (2**31 - 1,), 2), (0, (2,), (1,), 3), (0, (2,), (1, 1), 2)],
)  # fmt: skip
def test_tensors_never_reach_outside_their_numbers(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int
) -> None:
    path = archive(tmp_path / "w.pth", tensor_pickle(offset, size, stride, count))
    with pytest.raises(WeightsInvalid):
        read(path)


def deep_key() -> bytes:
    """A dict with a key of tuples in tuples, 60 levels that each hold the level below twice: hashing it would take for ever."""
    return b"\x80\x02}" + b")q\x000" + b"h\x00h\x00\x86q\x000" * 60 + b"h\x00Ns."


def test_keys_cannot_take_for_ever(tmp_path: Path) -> None:
    found = read(archive(tmp_path / "w.pth", deep_key()))
    assert [type(key) for key in found] == [Stub]


@pytest.mark.parametrize(
    "pickled",
    [
        b"", b".", b"\x80\x02", b"\x80\x02}", b"\x80\x02}s.", b"\x80\x02(.", b"\x80\x02h\x05.", b"\x80\x02}Q.", b"\x80\x02]R.",
        b"\x80\x02ctorch\nfloat32\n)R.", b"\x80\x02(ios\nsystem\n.", b"\x80\x02(cos\nsystem\no.", b"Pabc\n.",
        b"\x80\x02\x82\x01.", b"\x80\x02cposix\nsystem\n.", b"\x80\x02X\xff\xff\xff\x7fabc.", b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"\x80\x02K\x01.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", FORMATS)
def test_broken_and_strange_pickles_are_refused(tmp_path: Path, pickled: bytes, kind: str) -> None:
    path = tmp_path / "w.pth"
    if kind == "zip":
        archive(path, pickled)
    else:
        head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in head) + pickled)
    with pytest.raises(WeightsInvalid):
        read(path)


def test_compressed_and_overlapping_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalid, match="packed"):
        read(archive(tmp_path / "w.pth", tensor_pickle(0, (2,), (1,)), compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    whole = save(tensors(), tmp_path / "w.pth", kind).read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 60)):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(WeightsInvalid):
            read(tmp_path / "cut.pth")


def test_any_flipped_byte_gives_a_table_or_a_refusal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind in FORMATS:
        whole = bytearray(save(tensors(), tmp_path / "w.pth", kind).read_bytes())
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[int(rng.integers(len(whole)))] ^= int(rng.integers(1, 256))
            (tmp_path / "d.pth").write_bytes(damaged)
            with suppress(WeightsInvalid):
                assert isinstance(read(tmp_path / "d.pth"), dict)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer"),
        (b"", "no PyTorch"),
        (b"\x10\0\0\0\0\0\0\0{notjson........", "damaged"),
        (pickle.dumps({"a": 1}), "no PyTorch checkpoint"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsInvalid, match=told):
        read(tmp_path / "w.pth")


def test_a_table_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalid, match="no table"):
        read(save([torch.ones(1)], tmp_path / "w.pth"))


def test_a_compiled_program_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("m/data.pkl", b"\x80\x02}.")
        out.writestr("m/constants.pkl", b"\x80\x02).")
    (tmp_path / "w.pt").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsInvalid, match="TorchScript"):
        read(tmp_path / "w.pt")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="no weights file"):
        read(tmp_path / "none.pth")
