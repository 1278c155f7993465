"""Images as they arrive, as files and by link: what is no picture, or comes from where nothing may, is refused."""

from __future__ import annotations

import io
import re
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import supervisely as sly
from PIL import Image as Pictures

from apps.workbench import links
from apps.workbench.settings import Settings
from tests.apps.workbench.harness import Running, Served, free_port
from tests.apps.workbench.image_projects import HEIGHT, WIDTH, Pictured, encoded, pictured

__all__ = ["pictured"]


def _bomb() -> bytes:
    """The head of a PNG of 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def _post_file(served: Served, content: bytes, name: str = "0") -> Any:
    import requests

    address = f"{served.settings.address}/public/api/v3/images.bulk.upload"
    files = {"0-file": (name, io.BytesIO(content), "image/*")}
    return requests.post(address, files=files, headers=served.headers, timeout=20)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"no picture at all", 400),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", 400),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
        (encoded(1)[:60], 400),
        (encoded(1)[:200] + b"\0" * 50 + encoded(1)[250:], 400),
        (_bomb(), 413),
    ],
)
def test_what_is_no_picture_is_refused_and_not_kept(served: Served, content: bytes, status: int) -> None:
    reply = _post_file(served, content)
    assert reply.status_code == status, reply.text
    assert str(served.settings.data) not in reply.text
    assert not list((served.settings.data / "files" / "incoming").iterdir())


def test_an_upload_above_the_limit_is_refused(served: Served) -> None:
    limit = served.settings.max_upload_bytes
    reply = _post_file(served, b"\0" * (limit + 1))
    assert reply.status_code == 413
    assert not list((served.settings.data / "files" / "incoming").iterdir())


def test_many_ids_at_once(served: Served, pictured: Pictured) -> None:
    """More than one statement takes."""
    idents = list(range(2 * 10**9, 2 * 10**9 + 40_000))
    assert served.call("figures.bulk.remove", {"figureIds": idents}).status_code == 200
    assert served.call("images.bulk.remove", {"imageIds": [*idents, pictured.images[2].id]}).status_code == 200
    assert served.api.image.get_info_by_id(pictured.images[2].id) is None
    reply = served.call("image-tags.bulk.add-to-image", {"tagId": 1, "ids": idents})
    assert reply.status_code == 404


@pytest.mark.parametrize("title", ["../a.png", "a/b.png", "..", "", "a\nb.png", "x" * 300])
def test_titles_that_would_be_paths_for_others_are_refused(served: Served, pictured: Pictured, title: str) -> None:
    body = {"datasetId": pictured.dataset, "images": [{"title": title, "hash": pictured.images[0].hash}]}
    assert served.call("images.bulk.add", body).status_code == 400


def test_a_picture_on_its_side_has_its_upright_size(served: Served, pictured: Pictured) -> None:
    file, turned = io.BytesIO(), Pictures.Exif()
    turned[0x0112] = 6
    Pictures.new("RGB", (30, 20), (200, 0, 0)).save(file, "JPEG", exif=turned)
    reply = _post_file(served, file.getvalue()).json()
    [image] = served.api.image.upload_hashes(pictured.dataset, ["side.jpg"], [reply[0]["hash"]])
    assert (image.width, image.height) == (20, 30)
    assert served.api.image.download_np(image.id).shape == (30, 20, 3)


# --- links ------------------------------------------------------------------------------------------------------------


class Site:
    """Gives pictures that are noise, and those files; /away leads to a place inside the network, /endless.png begins to
    answer and never comes to the picture."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.asked = 0
        self.over = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked += 1
                if self.path == "/endless.png":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nx-")
                    while not site.over.wait(0.05):
                        self.wfile.write(b"x")
                    return
                picture = self.path.endswith(".png")
                content = encoded(len(self.path)) if picture else self.other()
                away = {"/away": "http://169.254.169.254/a.png", "/badly": "https://[::1/x"}.get(self.path)
                self.send_response(200 if away is None else 302)
                if away is not None:
                    self.send_header("location", away)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                for byte in content if self.path == "/slow.png" else b"":
                    self.wfile.write(bytes([byte]))
                    if site.over.wait(0.05):
                        return
                self.wfile.write(content)

            def other(self) -> bytes:
                return (files or {}).get(self.path.split("?")[0], b"<p>no picture")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Site:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def test_fetching_by_link_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused anyway is not fetched; a host that trickles is given up after a while, and when the server ends."""
    monkeypatch.setattr(links, "LONGEST_S", 2.0)
    left = tmp_path / "data" / "links" / "of a run that was killed"
    left.mkdir(parents=True)
    with Site() as site:
        hosts = frozenset({site.host})
        with Running(Settings(tmp_path / "data", port=free_port(), link_hosts=hosts)) as served:
            assert not left.exists()
            project = served.api.project.create(1, "slow")
            dataset = served.api.dataset.create(project.id, "ds")

            def add(name: str, path: str) -> str:
                image = {"title": name, "link": f"http://{site.host}{path}"}
                reply = served.call("images.bulk.add", {"datasetId": dataset.id, "images": [image]})
                assert reply.status_code == (200 if path == "/a.png" else 400)
                return reply.text

            add("1.png", "/a.png")
            add("1.png", "/slow.png")
            assert site.asked == 1, "the name is taken"
            assert "longer than 2 s" in add("2.png", "/slow.png")
            assert "longer than 2 s" in add("2.png", "/endless.png")
            monkeypatch.setattr(links, "LONGEST_S", 60.0)
            threading.Timer(0.5, served.bench.ending.set).start()
            assert "workbench ended" in add("3.png", "/endless.png")


def test_images_by_link(tmp_path: Path) -> None:
    """Fetched once, from where it is allowed; all or none; kept when the site is gone."""
    with Site() as site, Site() as other:
        hosts = frozenset({site.host})
        with Running(Settings(tmp_path / "data", port=free_port(), link_hosts=hosts)) as served:
            api = served.api
            project = api.project.create(1, "links")
            dataset = api.dataset.create(project.id, "ds")
            addresses = [f"http://{site.host}/{name}.png" for name in ("a", "bb", "bb")]
            added = api.image.upload_links(dataset.id, ["1.png", "2.png", "3.png"], addresses)
            assert [i.link for i in added] == addresses and added[1].hash == added[2].hash != added[0].hash
            for name, link in (
                ("page", f"http://{site.host}/page"),
                ("elsewhere", f"http://{site.host}/away"),
                ("not allowed", f"http://{other.host}/a.png"),
                ("a file", "file:///etc/passwd"),
                ("inside", "https://127.0.0.1/a.png"),
                ("no host", "https:///a.png"),
                ("no port", "https://host:abc/x.png"),
                ("half an address", "https://[::1/x.png"),
                ("a long label", f"https://{'a' * 64}.example/x.png"),
                ("an empty label", "https://.example/x.png"),
                ("control characters", "https://example.com/\x01x.png"),
                ("on to no port", f"http://{site.host}/badly"),
            ):
                both = [{"title": "good.png", "link": addresses[0]}, {"title": f"{name}.png", "link": link}]
                reply = served.call("images.bulk.add", {"datasetId": dataset.id, "images": both})
                assert reply.status_code == 400 and reply.json()["details"]["message"], name
            assert len(api.image.get_list(dataset.id)) == 3
            twin = api.dataset.create(project.id, "twin")
            [copy] = api.image.copy_batch(twin.id, [added[0].id])
            assert copy.link == addresses[0]
            seen = site.asked
            assert api.image.download_np(added[1].id).shape == (HEIGHT, WIDTH, 3)
            assert site.asked == seen, "what was fetched is kept"


def test_videos_by_link(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the SDK's own way; fetched once under the rules for pictures; all or none; kept when the site is gone."""
    playlist = b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"
    site = Site({"/clip.mp4": clip.read_bytes(), "/list.mp4": playlist})
    settings = Settings(tmp_path / "data", port=free_port(), link_hosts=frozenset({site.host}))
    with site, Site() as other, Running(settings) as served:
        api = served.api
        project = api.project.create(1, "links", sly.ProjectType.VIDEOS)
        dataset = api.dataset.create(project.id, "ds")
        good = f"http://{site.host}/clip.mp4"
        first, second = api.video.upload_links(dataset.id, [good, good], ["1.mp4", "2.mp4"])
        assert first.link == second.link == good and first.hash == second.hash and first.frames_count == 12
        assert site.asked == 1
        for name, link, why in (
            ("page", f"http://{site.host}/page", "not a video|text"),
            ("a list of files here", f"http://{site.host}/list.mp4", "text"),
            ("elsewhere", f"http://{site.host}/away", ""),
            ("not allowed", f"http://{other.host}/clip.mp4", ""),
            ("a file", f"file://{clip}", ""),
            ("inside", "https://127.0.0.1/clip.mp4", ""),
        ):
            both = [{"title": "good.mp4", "link": good}, {"title": f"{name}.mp4", "link": link}]
            reply = served.call("videos.bulk.add", {"datasetId": dataset.id, "videos": both})
            assert reply.status_code == 400 and re.search(why, reply.json()["details"]["message"]), name
        asked = site.asked
        taken = served.call("videos.bulk.add", {"datasetId": dataset.id, "videos": [{"title": "1.mp4", "link": good}]})
        assert taken.status_code == 400 and site.asked == asked, "the name is taken: nothing is fetched"
        monkeypatch.setattr(links, "MAX_VIDEO_BYTES", 100)
        video = {"title": "x.mp4", "link": f"{good}?again"}
        large = served.call("videos.bulk.add", {"datasetId": dataset.id, "videos": [video]})
        assert large.status_code == 413 and "larger than 100 bytes" in large.text
        claimed = [{"title": "claimed.mp4", "hash": first.hash, "link": f"{good}?another"}]
        reply = served.call("videos.bulk.add", {"datasetId": dataset.id, "videos": claimed})
        assert reply.json()[0]["link"] is None, "nobody has looked whether that file lies there"
        assert len(api.video.get_list(dataset.id)) == 3
        [copied] = api.video.upload_ids(api.dataset.create(project.id, "twin").id, ["3.mp4"], [first.id])
        assert copied.link == good
        asked = site.asked
        assert api.video.frame.download_np(first.id, 3).shape == (48, 64, 3)
        assert site.asked == asked, "what was fetched is kept"
