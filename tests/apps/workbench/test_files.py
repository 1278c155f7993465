"""Team files: names in a table, bytes by content."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apps.workbench.store.errors import Refused
from apps.workbench.store.names import filename, label, team_path
from tests.apps.workbench.harness import Served


def test_files_come_back(served: Served, tmp_path: Path) -> None:
    api = served.api.file
    sources = []
    for number in range(30):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(bytes([number]) * (number * 1000))
        sources.append(path)
    targets = [f"/folder/sub{number % 3}/{number}.txt" for number in range(30)]
    infos = api.upload_bulk(1, [str(p) for p in sources], targets)
    assert sorted(info.path for info in infos) == sorted(targets[1:] + targets[:1])
    assert len(api.list(1, "/folder/", recursive=True)) == 30
    assert {entry["name"] for entry in api.list(1, "/folder", recursive=False)} == {"sub0", "sub1", "sub2"}
    api.download(1, "/folder/sub2/29.txt", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == sources[29].read_bytes()
    info = api.get_info_by_path(1, "/folder/sub1/28.txt")
    assert (info.sizeb, info.ext, info.name) == (28000, "txt", "28.txt")
    assert api.get_info_by_id(info.id) == info
    api.remove_dir(1, "/folder/sub1/")
    assert api.get_info_by_path(1, "/folder/sub1/28.txt") is None
    assert len(api.list(1, "/folder/", recursive=True)) == 20


def test_the_asynchronous_way(served: Served, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 9000)
    asyncio.run(served.api.file.upload_async(1, str(source), "/async/täst.bin", raise_check_error=True))
    asyncio.run(served.api.file.download_async(1, "/async/täst.bin", str(tmp_path / "back.bin")))
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()


def test_a_second_upload_replaces(served: Served, tmp_path: Path) -> None:
    source = tmp_path / "x"
    for content in (b"old", b"new"):
        source.write_bytes(content)
        served.api.file.upload(1, str(source), "/replaced/x")
    served.api.file.download(1, "/replaced/x", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"new"
    assert len(served.api.file.list(1, "/replaced/")) == 1


@pytest.mark.parametrize(
    "path", ["", "/", "../x", "/a/../b", "/a//b", "/a/./b", "a\\b", "/a/\0", "/" + "x" * 300, "/x" * 3000]
)
def test_paths_that_are_none_are_refused(path: str) -> None:
    with pytest.raises(Refused):
        team_path(path)


def test_hostile_paths_over_http(served: Served) -> None:
    for path in ("/../../etc/passwd", "../token", "/a/../../token"):
        assert served.call("file-storage.download", {"teamId": 1, "path": path}).status_code == 400
        assert served.call("file-storage.remove", {"teamId": 1, "path": path}).status_code == 400
    assert (served.settings.data / "token").exists()


@pytest.mark.parametrize(
    ("name", "shown", "file"),
    [("a b é.mp4", True, True), ("a/b", True, False), ("..", True, False), (" ", False, False), ("a\nb", False, False)],
)
def test_names(name: str, shown: bool, file: bool) -> None:
    for check, good in ((label, shown), (filename, file)):
        if good:
            assert check(name, "thing") == name
        else:
            with pytest.raises(Refused):
                check(name, "thing")
