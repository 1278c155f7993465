"""Uploading, describing and serving videos."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
import supervisely as sly

from common.video.reader import open_source
from tests.apps.workbench.harness import Labelled, Served, write_video


def _upload(served: Served, content: bytes, name: str = "0-file", filename: str = "0") -> requests.Response:
    return requests.post(
        f"{served.settings.address}/public/api/v3/videos.bulk.upload",
        files={name: (filename, content, "video/*")},
        headers=served.headers,
        timeout=30,
    )


def _stored(served: Served) -> set[str]:
    return {path.name for path in (served.settings.data / "files").rglob("*") if path.is_file()}


def test_frames_are_those_of_the_reader(served: Served, labelled: Labelled, clip: Path) -> None:
    source = open_source(clip)
    assert labelled.video.frames_count == source.info.frames == 12
    one = served.api.video.frame.download_np(labelled.video.id, 7)
    np.testing.assert_array_equal(one, source.read(7))
    order = [11, 0, 5, 5, 3]
    many = served.api.video.frame.download_nps(labelled.video.id, order)
    for index, image in zip(order, many, strict=True):
        np.testing.assert_array_equal(image, source.read(index))


def test_the_helper_that_asks_for_frames_by_get(served: Served, labelled: Labelled, clip: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{index}.png") for index in (2, 9)]
    served.api.video.download_frames(labelled.video.id, [2, 9], paths)
    source = open_source(clip)
    for index, path in zip((2, 9), paths, strict=True):
        np.testing.assert_array_equal(sly.image.read(path), source.read(index))


def test_file_meta_has_what_the_sdk_reads(labelled: Labelled) -> None:
    video = labelled.video
    assert (video.frame_width, video.frame_height, video.frames_count) == (64, 48, 12)
    assert video.frames_to_timecodes == pytest.approx([index / 25 for index in range(12)])
    assert video.file_meta["duration"] == pytest.approx(12 / 25)
    assert video.file_meta["mime"] == "video/mp4"


@pytest.mark.parametrize("frame", [-1, 12, 10**9])
def test_a_frame_beyond_the_end_is_not_found(served: Served, labelled: Labelled, frame: int) -> None:
    one = served.call("videos.download-frame", {"videoId": labelled.video.id, "frame": frame})
    many = served.call("videos.bulk.download-frame", {"videoId": labelled.video.id, "frames": [0, frame]})
    for reply in (one, many):
        assert reply.status_code == 404
        assert "frames 0 to 11" in reply.json()["details"]["message"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-50", slice(-50, None)),
        ("bytes=7-7", slice(7, 8)),
    ],
)
def test_ranges(served: Served, labelled: Labelled, clip: Path, asked: str, expected: slice) -> None:
    reply = requests.post(
        f"{served.settings.address}/public/api/v3/videos.download",
        json={"id": labelled.video.id},
        headers={**served.headers, "Range": asked},
        timeout=30,
    )
    assert reply.status_code == 206
    assert reply.content == clip.read_bytes()[expected]


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=a-b", "chickens=1-2", ""])
def test_a_header_that_is_no_range_gets_everything(served: Served, labelled: Labelled, clip: Path, asked: str) -> None:
    reply = requests.post(
        f"{served.settings.address}/public/api/v3/videos.download",
        json={"id": labelled.video.id},
        headers={**served.headers, "Range": asked},
        timeout=30,
    )
    assert (reply.status_code, reply.content) == (200, clip.read_bytes())


def test_an_asynchronous_download_can_go_on_where_it_stopped(
    served: Served, labelled: Labelled, clip: Path, tmp_path: Path
) -> None:
    path = tmp_path / "part.mp4"
    path.write_bytes(clip.read_bytes()[:1000])
    asyncio.run(served.api.video.download_path_async(labelled.video.id, str(path), range_start=1000))
    assert path.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "text"),
        (os.urandom(2000), "not a video"),
        (b"\x00\x00\x00\x18ftypisom" + b"\0" * 3000, "File 1"),
    ],
    ids=["empty", "play list", "concat list", "noise", "hollow mp4"],
)
def test_what_is_no_video_is_refused_and_not_kept(served: Served, content: bytes, says: str) -> None:
    before = _stored(served)
    reply = _upload(served, content)
    assert reply.status_code == 400, reply.text
    message = reply.json()["details"]["message"]
    assert says in message
    assert "upload-" not in message, "names of temporary files are nobody's business"
    assert _stored(served) == before


def test_a_cut_off_upload_is_refused(served: Served, clip: Path) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="0-file"; filename="0"\r\n\r\n' + clip.read_bytes()[:500]
    before = _stored(served)
    reply = requests.post(
        f"{served.settings.address}/public/api/v3/videos.bulk.upload",
        data=body,
        headers={**served.headers, "Content-Type": "multipart/form-data; boundary=x"},
        timeout=30,
    )
    assert reply.status_code == 400
    assert _stored(served) == before


def test_an_upload_that_is_no_form_is_refused(served: Served) -> None:
    assert served.call("videos.bulk.upload", {"not": "a form"}).status_code == 400


def test_an_upload_above_the_limit_is_refused(served: Served) -> None:
    before = _stored(served)
    announced = _upload(served, b"\0" * (served.settings.max_upload_bytes + 1))
    assert announced.status_code == 413

    def endless() -> object:
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        for _ in range(served.settings.max_upload_bytes // 65536 + 2):
            yield b"\0" * 65536

    chunked = requests.post(
        f"{served.settings.address}/public/api/v3/videos.bulk.upload",
        data=endless(),
        headers={**served.headers, "Content-Type": "multipart/form-data; boundary=x"},
        timeout=30,
    )
    assert chunked.status_code == 413
    assert _stored(served) == before


@pytest.mark.parametrize("filename", ["../../evil", "/etc/passwd", "a\\..\\b", "..", "x" * 300])
def test_names_in_an_upload_reach_no_path(served: Served, filename: str, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "v.mp4", frames=2, seed=len(filename))
    outside = set(served.settings.data.parent.iterdir())
    reply = _upload(served, clip.read_bytes(), filename=filename)
    assert reply.status_code == 200
    assert set(served.settings.data.parent.iterdir()) == outside
    assert all(len(name) == 64 for name in _stored(served))


@pytest.mark.parametrize("title", ["../evil.mp4", "a/b.mp4", "a\\b.mp4", "..", "", "nul\0.mp4", "é" * 200 + ".mp4"])
def test_titles_that_would_be_paths_for_others_are_refused(served: Served, labelled: Labelled, title: str) -> None:
    videos = [{"title": title, "hash": labelled.video.hash, "meta": {}}]
    reply = served.call("videos.bulk.add", {"datasetId": labelled.dataset_id, "videos": videos})
    assert reply.status_code == 400
    assert len(served.api.video.get_list(labelled.dataset_id)) == 1


def test_a_name_is_used_once_in_a_dataset(served: Served, labelled: Labelled, clip: Path) -> None:
    videos = [{"title": "new.mp4", "hash": labelled.video.hash}, {"title": "clip.mp4", "hash": labelled.video.hash}]
    assert served.call("videos.bulk.add", {"datasetId": labelled.dataset_id, "videos": videos}).status_code == 400
    assert [v.name for v in served.api.video.get_list(labelled.dataset_id)] == ["clip.mp4"], "all or none"
    again = served.api.video.upload_path(labelled.dataset_id, "clip.mp4", str(clip))
    assert again.name != "clip.mp4"


def test_the_same_content_is_stored_once(served: Served, labelled: Labelled, clip: Path) -> None:
    before = _stored(served)
    other = served.api.dataset.create(labelled.project_id, "other")
    served.api.video.upload_path(other.id, "same.mp4", str(clip))
    assert _stored(served) == before
    [copied] = served.api.video.upload_ids(other.id, ["by id.mp4"], [labelled.video.id])
    assert copied.hash == labelled.video.hash


def test_unknown_hashes_and_links_are_refused(served: Served, labelled: Labelled) -> None:
    for video in ({"title": "a.mp4", "hash": "AAAA"}, {"title": "a.mp4", "link": "http://example.com/a.mp4"}):
        reply = served.call("videos.bulk.add", {"datasetId": labelled.dataset_id, "videos": [video]})
        assert reply.status_code in (400, 404)


def test_lists_page_and_walk(served: Served, labelled: Labelled) -> None:
    hash = labelled.video.hash
    videos = [{"title": f"{number}.mp4", "hash": hash} for number in range(6)]
    served.call("videos.bulk.add", {"datasetId": labelled.dataset_id, "videos": videos})
    pages = list(served.api.video.get_list_generator(labelled.dataset_id, batch_size=3))
    assert [len(page) for page in pages if page] == [3, 3, 1]
    assert len({video.id for page in pages for video in page}) == 7
    page = served.call("videos.list", {"datasetId": labelled.dataset_id, "per_page": 3, "page": 3}).json()
    assert (page["total"], page["pagesCount"], len(page["entities"])) == (7, 3, 1)
    down = served.call("videos.list", {"datasetId": labelled.dataset_id, "sort": "name", "sort_order": "desc"}).json()
    assert [v["name"] for v in down["entities"]][:2] == ["clip.mp4", "5.mp4"]


@pytest.mark.parametrize(
    ("filter", "count"),
    [
        ({"field": "name", "operator": "=", "value": "clip.mp4"}, 1),
        ({"field": "name", "operator": "=", "value": "' OR 1=1 --"}, 0),
        ({"field": "id", "operator": "in", "value": []}, 0),
        ({"field": "name", "operator": "!=", "value": "clip.mp4"}, 0),
        ({"field": "password", "operator": "=", "value": "x"}, None),
        ({"field": "id", "operator": "like", "value": "x"}, None),
        ({"field": "id", "operator": "=", "value": "x"}, None),
        ({"field": "id", "operator": "in", "value": 3}, None),
    ],
)
def test_filters(served: Served, labelled: Labelled, filter: dict[str, object], count: int | None) -> None:
    reply = served.call("videos.list", {"datasetId": labelled.dataset_id, "filter": [filter]})
    if count is None:
        assert reply.status_code == 400
    else:
        assert reply.json()["total"] == count


def test_rename_custom_data_and_remove(served: Served, labelled: Labelled) -> None:
    api = served.api
    api.video.rename(labelled.video.id, "renamed.mp4")
    api.video.update_custom_data(labelled.video.id, {"a": [1, 2]})
    info = api.video.get_info_by_id(labelled.video.id)
    assert (info.name, info.custom_data) == ("renamed.mp4", {"a": [1, 2]})
    api.video.remove(labelled.video.id)
    assert api.video.get_info_by_id(labelled.video.id) is None


def test_the_page_gets_frames_to_keep(served: Served, labelled: Labelled, clip: Path) -> None:
    address = f"videos/{labelled.video.id}/frames/3"
    reply = served.own("GET", address, params={"format": "png"})
    assert "immutable" in reply.headers["cache-control"]
    np.testing.assert_array_equal(sly.image.read_bytes(reply.content), open_source(clip).read(3))
    small = served.own("GET", address, params={"width": 32})
    assert small.headers["content-type"] == "image/jpeg"
    assert sly.image.read_bytes(small.content).shape == (24, 32, 3)
    again = requests.get(
        f"{served.settings.address}/workbench/{address}?format=png",
        headers={**served.headers, "If-None-Match": reply.headers["etag"]},
        timeout=30,
    )
    assert (again.status_code, again.content) == (304, b"")


def test_clean_up_deletes_only_what_nothing_uses(served: Served, labelled: Labelled, tmp_path: Path) -> None:
    path = write_video(tmp_path / "lonely.mp4", frames=3, seed=99)
    assert _upload(served, path.read_bytes()).status_code == 200
    before = _stored(served)
    served.api.cleanup_unused_data()
    assert len(_stored(served)) < len(before)
    assert served.api.video.frame.download_np(labelled.video.id, 0).shape == (48, 64, 3)
    assert _upload(served, path.read_bytes()).status_code == 200, "what was deleted can come again"


def test_many_clients_at_once(served: Served, labelled: Labelled) -> None:
    """Readers and writers together: nobody gets an error, and the frames are right."""
    object_id = labelled.add_object(served)
    figure = {
        "objectId": object_id,
        "geometryType": "rectangle",
        "geometry": {"points": {"exterior": [[1, 2], [9, 9]], "interior": []}},
    }

    def work(number: int) -> int:
        if number % 3 == 0:
            return served.call(
                "videos.download-frame", {"videoId": labelled.video.id, "frame": number % 12}
            ).status_code
        if number % 3 == 1:
            body = {"entityId": labelled.video.id, "figures": [{**figure, "meta": {"frame": number % 12}}]}
            return served.call("figures.bulk.add", body).status_code
        return served.call("videos.annotations.bulk.info", {"videoIds": [labelled.video.id]}).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(90))) == {200}
    figures = served.api.video.figure.download(labelled.dataset_id, [labelled.video.id])[labelled.video.id]
    assert len(figures) == 30
