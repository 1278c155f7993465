"""A labeler's whole way, by pointer and keys only: one's own video in, drawn, tracked, reviewed, corrected, accepted, out."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import supervisely as sly

from common.evaluation.demo import demo_scene
from common.video.writer import VideoWriter
from tests.apps.workbench.annotator.browser import Bench, Screen, square, wait

FRAMES = 24
Box = tuple[float, float, float, float]


@pytest.fixture(params=["demo", "1080p"])
def subject(request: pytest.FixtureRequest, clips: dict[str, Path], tmp_path: Path) -> tuple[Path, Box]:
    """A clip, and the box of what is to be tracked on its first frame (left, top, right, bottom; edges in pixels)."""
    if request.param == "1080p":
        x, y = square(0, 1920, 1080)
        return clips["large"], (x, y, x + 216, y + 216)
    scene = demo_scene(frames=FRAMES)
    path = tmp_path / "demo.mp4"
    with VideoWriter(path, scene.width, scene.height, scene.fps) as writer:
        for frame in range(FRAMES):
            writer.write(scene.render(frame))
    box = scene.truth(0)["buoy"].box
    assert box is not None
    left, top, right, bottom = box.xyxy.tolist()
    return path, (left, top, right, bottom)


def test_from_ones_own_video_to_an_exported_track(
    screen: Screen, tracking: Bench, subject: tuple[Path, Box], tmp_path: Path
) -> None:
    clip, (left, top, right, bottom) = subject
    page = screen.page
    page.goto(screen.bench.address)
    screen.until("window.annotator?.S.video || document.querySelector('dialog[open]')")
    if not page.locator("dialog").count():
        screen.button("Open or upload a video")
    page.get_by_label("Video file").set_input_files(clip)
    screen.until(f"annotator.S.video?.name === '{clip.name}' && annotator.view.shown === 0")
    assert page.title().startswith(clip.stem)
    video = int(screen.get("annotator.S.video.id"))

    screen.press("b")
    screen.drag((left, top), (right - 1, bottom - 1))
    screen.until("annotator.S.objects.size === 1 || document.querySelector('dialog[open]')")
    if page.locator("dialog").count():  # the first object of the first video: of what class?
        screen.new_class("thing")
    screen.until("annotator.S.objects.size === 1 && annotator.S.selected.size === 1")
    screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    screen.until(f"document.getElementById('track-plan').textContent.endsWith('frame 0 → {FRAMES - 1}')")

    screen.press("t")
    page.get_by_role("progressbar", name="Tracking progress").wait_for()
    screen.until("annotator.S.tracks.size === 0")
    everywhere = "[...annotator.S.codes.values()][0].every((code) => code !== 0)"
    screen.until(everywhere)
    told = page.get_by_role("status").filter(has_text=f"on {FRAMES - 1} frames")
    told.wait_for()
    screen.until(f"annotator.view.shown === {FRAMES - 1}")  # the picture went along
    told.get_by_role("button", name="Undo").click()
    wait(lambda: [f["frame"] for f in tracking.figures(video)] == [0], "taking the tracking back")
    screen.until(f"!{everywhere}")
    screen.button("Undo")
    screen.until(everywhere)

    screen.go_to(15)
    screen.press("Delete")
    wait(lambda: not tracking.figures(video, 15, 15), "deleting one figure")
    screen.until("[...document.querySelectorAll('.doubt')].some((row) => row.textContent.includes('no figure here'))")
    screen.press("Home", "n")
    screen.until("annotator.view.shown === 15 && document.querySelector('.doubt.on')")
    screen.press("a")  # so it is not there
    wait(lambda: tracking.objects(video)[0]["absent"] == [[15, 15]], "marking the gap")
    screen.until("annotator.S.objects.values().next().value.absent.length === 1")
    screen.press("Control+z", "Control+z")
    wait(lambda: tracking.figures(video, 15, 15) and not tracking.objects(video)[0]["absent"], "taking both back")

    screen.go_to(8)
    (x, y), by = tracking.figures(video, 8, 8)[0]["geometry"]["points"]["exterior"][1], (right - left) // 10
    screen.drag((x + 1, y + 1), (x + by, y + by))
    wait(lambda: tracking.figures(video, 8, 8)[0]["key"], "the correction")
    screen.until("annotator.S.codes.values().next().value[8] === 1")
    page.get_by_label("How far").select_option(label="so many frames")
    page.get_by_label("Number of frames").fill("6")
    page.get_by_label("Number of frames").press("Enter")
    page.get_by_label("Number of frames").blur()
    before = tracking.figures(video, 12, 12)[0]["geometry"]
    screen.press("t")
    wait(lambda: tracking.figures(video, 12, 12)[0]["geometry"] != before, "tracking on from the correction")
    screen.until("annotator.S.tracks.size === 0")

    screen.go_to(12)
    screen.press("Shift+A")
    wait(lambda: all(f["key"] for f in tracking.figures(video, 8)), "accepting what was tracked after the correction")
    assert not any(f["key"] for f in tracking.figures(video, 1, 7))

    screen.button("Export labels")
    with page.expect_download() as download:
        page.locator("[data-format=supervisely]").click()
    download.value.save_as(tmp_path / "labels.zip")
    zipfile.ZipFile(tmp_path / "labels.zip").extractall(tmp_path / "out")
    project = sly.VideoProject(str(tmp_path / "out" / "project"), sly.OpenMode.READ)
    (dataset,) = project.datasets
    ann = dataset.get_ann(clip.name, project.meta, sly.KeyIdMap())
    assert [(frame.index, len(frame.figures)) for frame in ann.frames] == [(index, 1) for index in range(FRAMES)]
    assert Path(dataset.get_item_path(clip.name)).read_bytes() == clip.read_bytes()
