"""Weights come once, whole, and stay what they were."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import Interrupted, OutputUnusable, WeightsInvalid, WeightsMissing
from common.weights.entries import Weights, WeightsFile
from common.weights.store import Store, recorded
from common.weights.transfer import Rules
from tests.common.weights.web import Site, serving

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(CONTENT)) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, site: Site) -> Store:
    return Store(tmp_path / "store", rules=Rules(frozenset({site.host}), waits_s=(0.0, 0.0)))


def toy(site: Site, path: str = "/file", **known: object) -> Weights:
    file = WeightsFile("toy.pth", site.address + path, **known)  # type: ignore[arg-type]
    return Weights("toy", "Toy", (file,), "MIT", "MIT", False)


def test_a_download_is_recorded_and_not_repeated(store: Store, site: Site) -> None:
    weights = toy(site)
    assert store.status(weights) == "not here"
    seen: list[tuple[int, int | None]] = []
    (path,) = store.download(weights, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert recorded(path) == SHA
    assert store.status(weights) == "here"
    assert store.download(weights) == store.require(weights) == [path]
    assert len(site.asked) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "toy.pth", "toy.pth.sha256"]


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}, {"size": len(CONTENT)}])
def test_a_broken_connection_is_resumed(store: Store, site: Site, known: dict[str, object]) -> None:
    site.cut_after = [100_000, 300_000]
    (path,) = store.download(toy(site, **known))
    assert path.read_bytes() == CONTENT
    assert site.wanted_from == ["", "bytes=100000-", "bytes=400000-"]


def test_an_interrupted_download_goes_on_later(store: Store, site: Site) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        store.download(toy(site), lambda done, total: stop.set() if done else None, stop)
    store.download(toy(site))
    assert site.wanted_from[-1].startswith("bytes=")
    store.verify(toy(site))


def test_nothing_of_another_state_of_the_file_is_kept(store: Store, site: Site) -> None:
    site.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(WeightsMissing, match="goes on where this one stopped"):
        store.download(toy(site))
    site.content, site.etag, site.cut_after = b"new" * 1000, '"2"', []
    assert store.download(toy(site))[0].read_bytes() == site.content


@pytest.mark.parametrize("change", [{"etag": ""}, {"etag": 'W/"1"'}, {"ranges": False}])
def test_servers_that_cannot_resume_start_over(store: Store, site: Site, change: dict[str, object]) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    site.cut_after = [100_000]
    assert store.download(toy(site))[0].read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(store: Store, site: Site) -> None:
    site.cut_after = [len(CONTENT) - 1, 0, 0, 0]
    with pytest.raises(WeightsMissing):
        store.download(toy(site))
    part = store.folder / "toy" / "toy.pth.part"
    part.write_bytes(CONTENT)
    assert store.download(toy(site))[0].read_bytes() == CONTENT


def test_a_spoilt_part_is_fetched_anew(store: Store, site: Site) -> None:
    site.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(WeightsMissing):
        store.download(toy(site, sha256=SHA))
    part = store.folder / "toy" / "toy.pth.part"
    part.write_bytes(b"?" * 100_000)
    assert store.download(toy(site, sha256=SHA))[0].read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"size": 5}])
def test_other_bytes_than_published_are_refused(store: Store, site: Site, known: dict[str, object]) -> None:
    with pytest.raises(WeightsInvalid, match="published"):
        store.download(toy(site, **known))
    assert store.status(toy(site)) == "not here"


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}])
@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"?", CONTENT + b"?"])
def test_files_that_changed_are_refused_ever_after(
    store: Store, site: Site, damage: bytes, known: dict[str, object]
) -> None:
    weights = toy(site, **known)
    (path,) = store.download(weights)
    path.write_bytes(damage)
    for check in (store.verify, store.require, store.download):
        with pytest.raises(WeightsInvalid, match="models download toy"):
            check(weights)
    path.unlink()
    store.download(weights)
    store.verify(weights)


def test_a_publisher_cannot_swap_a_file_that_was_deleted(store: Store, site: Site) -> None:
    (path,) = store.download(toy(site))
    path.unlink()
    site.content = b"other"
    with pytest.raises(WeightsInvalid, match=r"changed since it first came.*toy\.pth\.sha256"):
        store.download(toy(site))


@pytest.mark.parametrize(
    ("statuses", "error", "told"),
    [
        ([500, 429], None, ""),
        ([503] * 9, WeightsMissing, "503"),
        ([404], WeightsMissing, "has no toy.pth at that address"),
        ([401], WeightsMissing, "HF_TOKEN"),
    ],
)
def test_refusals_are_told(
    store: Store, site: Site, statuses: list[int], error: type[Exception] | None, told: str
) -> None:
    site.statuses = statuses
    if error is None:
        store.download(toy(site))
        return
    with pytest.raises(error, match=told):
        store.download(toy(site))


def test_a_web_page_is_no_checkpoint(store: Store, site: Site) -> None:
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(WeightsInvalid, match="web page"):
        store.download(toy(site))


def test_redirects_are_followed_without_the_token(store: Store, site: Site) -> None:
    with serving(Site(CONTENT)) as other:
        site.redirects = {"/file": "/next", "/next": other.address + "/stored"}
        rules = Rules(frozenset({site.host, other.host}), headers={"authorization": "Bearer secret"})
        replace(store, rules=rules).download(toy(site))
        assert [headers.get("authorization") for _, headers in site.asked] == ["Bearer secret"] * 2
        assert [headers.get("authorization") for _, headers in other.asked] == [None]


@pytest.mark.parametrize(
    "target",
    ["http://example.org/x", "https://127.0.0.1/x", "https://localhost/x", "https://10.1.2.3/x", "https://[::1]/x",
     "https://169.254.169.254/latest", "https://user:word@example.org/x", "file:///etc/passwd", "ftp://example.org/x"],
)  # fmt: skip
def test_addresses_that_are_not_public_https_are_refused(store: Store, site: Site, target: str) -> None:
    site.redirects = {"/file": target}
    with pytest.raises(WeightsInvalid, match="leads to"):
        store.download(toy(site))
    plain = replace(store, rules=None)
    with pytest.raises(WeightsInvalid, match=r"leads to http://127\.0\.0\.1"):
        plain.download(toy(site))


def test_redirects_end(store: Store, site: Site) -> None:
    site.redirects = {"/file": "/file"}
    with pytest.raises(WeightsInvalid, match="without end"):
        store.download(toy(site))


def test_offline_says_what_to_do(store: Store, site: Site) -> None:
    offline = replace(store, offline=True)
    for call in (offline.download, offline.require):
        with pytest.raises(WeightsMissing, match=r"VIDEO_TRACKING_OFFLINE.*toy\.pth"):
            call(toy(site))
    assert site.asked == []


@pytest.mark.parametrize("place", ["toy/toy.pth", "toy.pth"])
def test_a_mirror_folder_stands_for_the_network(store: Store, site: Site, tmp_path: Path, place: str) -> None:
    source = tmp_path / "mirror" / place
    source.parent.mkdir(parents=True)
    source.write_bytes(CONTENT)
    offline = replace(store, mirror=tmp_path / "mirror", offline=True)
    assert offline.status(toy(site)) == "in the mirror"
    assert offline.require(toy(site))[0].read_bytes() == CONTENT
    assert offline.status(toy(site)) == "here"
    assert site.asked == []


def test_a_damaged_mirror_is_refused(store: Store, site: Site, tmp_path: Path) -> None:
    (tmp_path / "toy.pth").write_bytes(b"?" * len(CONTENT))
    with pytest.raises(WeightsInvalid, match="published"):
        replace(store, mirror=tmp_path).require(toy(site, sha256=SHA))
    assert store.status(toy(site)) == "not here"


def test_pages_for_people_are_named_and_their_file_adopted(store: Store, site: Site) -> None:
    weights = toy(site, by_hand=True)
    with pytest.raises(WeightsMissing, match=rf"open {site.address}/file in a browser and save toy\.pth as") as told:
        store.download(weights)
    path = store.path(weights, weights.files[0])
    assert str(path) in str(told.value)
    path.write_bytes(CONTENT)
    store.download(weights)
    assert recorded(path) == SHA
    assert site.asked == []


def test_threads_fetch_a_file_once(store: Store, site: Site) -> None:
    threads = [threading.Thread(target=store.download, args=(toy(site),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.asked) == 1
    store.verify(toy(site))


def test_another_process_is_waited_for(store: Store, site: Site) -> None:
    folder = store.folder / "toy"
    folder.mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    arguments = [sys.executable, "-c", code, str(folder / ".lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        stop = threading.Event()
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        with pytest.raises(Interrupted, match="Another process"):
            store.download(toy(site), stop=stop)
        assert site.asked == []
        holder.kill()
    store.download(toy(site))


def test_a_folder_that_cannot_be_is_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnusable, match="cannot be kept"):
        Store(tmp_path / "file").download(toy(site))


def test_the_environment_decides(tmp_path: Path) -> None:
    store = Store.from_env({"VIDEO_TRACKING_WEIGHTS": "~/w", "VIDEO_TRACKING_OFFLINE": "1", "HF_TOKEN": "t"})
    assert (store.folder, store.offline, store.mirror, store.token) == (Path.home() / "w", True, None, "t")
    plain = Store.from_env({"XDG_CACHE_HOME": str(tmp_path), "VIDEO_TRACKING_OFFLINE": "0"})
    assert not plain.offline
    if sys.platform == "linux":
        assert plain.folder == tmp_path / "video-tracking" / "weights"
