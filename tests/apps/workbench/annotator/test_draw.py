"""Opening a video, moving in it, drawing and editing every kind of figure, taking it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.geometry.supervisely import decode_bitmap
from tests.apps.workbench.annotator.browser import Bench, Screen, wait


def near(points: object, expected: object, reach: float = 1.6) -> bool:
    flat = [v for p in points for v in p]  # type: ignore[attr-defined]
    wanted = [v for p in expected for v in p]  # type: ignore[attr-defined]
    return len(flat) == len(wanted) and all(abs(a - b) <= reach for a, b in zip(flat, wanted, strict=True))


@pytest.mark.parametrize("which", ["small", "large"])
def test_the_picture_is_that_of_the_frame(
    screen: Screen, bench: Bench, clips: dict[str, Path], which: str, request: pytest.FixtureRequest
) -> None:
    screen.open(request.getfixturevalue("video" if which == "small" else "large"))
    for keys, frame in [
        (["ArrowRight"], 1), (["ArrowRight", "ArrowRight"], 3), (["ArrowLeft"], 2), (["Shift+ArrowRight"], 12),
        (["End"], 47 if which == "small" else 23), (["Shift+ArrowLeft"], 37 if which == "small" else 13), (["Home"], 0),
    ]:  # fmt: skip
        screen.press(*keys)
        screen.until(f"annotator.view.shown === {frame}")
        screen.page.wait_for_timeout(40)
        assert screen.number_seen() == frame
    screen.go_to(17)
    screen.page.wait_for_timeout(40)
    assert screen.number_seen() == 17


def test_playing_shows_frames_in_order_and_stops_at_the_end(screen: Screen, video: int) -> None:
    screen.open(video, 30)
    screen.get(
        "window.seen = []; (function look() { const n = annotator.view.shown; if (seen.at(-1) !== n) seen.push(n); requestAnimationFrame(look); })()"
    )
    screen.press("Space")
    screen.until("annotator.view.shown === 47")
    seen = screen.get("seen")
    assert seen == sorted(seen)
    assert len(seen) > 5


def test_zoom_and_pan_keep_what_is_under_the_pointer(screen: Screen, video: int) -> None:
    screen.open(video)
    x, y = screen.at(200, 100)
    screen.page.mouse.move(x, y)
    screen.page.mouse.wheel(0, -400)
    screen.until("!annotator.view.fitted")
    after = screen.at(200, 100)
    assert abs(after[0] - x) < 1
    assert abs(after[1] - y) < 1
    screen.drag((200, 100), (180, 100))
    moved = screen.at(200, 100)
    assert moved[0] < x - 10
    screen.press("f")
    screen.until("annotator.view.fitted")


def test_every_kind_of_figure_is_drawn(screen: Screen, bench: Bench, video: int) -> None:
    screen.open(video)

    def drawn(count: int) -> dict[str, object]:
        return wait(lambda: (f := bench.figures(video)) and len(f) == count and f, f"figure {count}")[-1]

    screen.press("b")
    screen.drag((20, 60), (80, 110))
    screen.new_class("thing")
    box = drawn(1)
    assert box["type"] == "rectangle"
    assert near(box["geometry"]["points"]["exterior"], [[20, 60], [79, 109]])

    screen.press("p")
    for place in [(100, 60), (140, 60), (140, 90), (100, 90)]:
        screen.click(*place)
    screen.press("Enter")
    polygon = drawn(2)
    assert near(polygon["geometry"]["points"]["exterior"], [[100, 60], [140, 60], [140, 90], [100, 90]])
    screen.button("Cut a hole")
    for place in [(110, 68), (130, 68), (120, 82)]:
        screen.click(*place)
    screen.press("Enter")
    wait(lambda: bench.figures(video)[-1]["geometry"]["points"]["interior"], "the hole")

    screen.press("l")
    for place in [(160, 60), (200, 80), (220, 60)]:
        screen.click(*place)
    screen.press("Enter")
    assert drawn(3)["type"] == "line"

    screen.press("o")
    screen.click(240, 70)
    assert near(drawn(4)["geometry"]["points"]["exterior"], [[240, 70]])

    screen.press("r")
    screen.drag((30, 150), (80, 170))
    screen.click(50, 200)
    turned = drawn(5)
    assert turned["type"] == "oriented_bbox"
    assert 0.3 < turned["geometry"]["angle"] < 0.46

    screen.press("m")
    screen.drag((120, 150), (170, 150), (170, 180))
    mask = drawn(6)
    assert mask["type"] == "bitmap"
    area = decode_bitmap(mask["geometry"]["bitmap"]["data"]).sum()
    assert 1500 < area < 3500
    screen.until(f"annotator.view.figure === {mask['id']}")  # the page has it too
    screen.press("e")
    screen.until("annotator.S.tool === 'eraser'")
    screen.drag((165, 180), (175, 180))
    wait(
        lambda: decode_bitmap(bench.figures(video)[-1]["geometry"]["bitmap"]["data"]).sum() < area - 100, "the erasing"
    )

    screen.press("k")
    screen.drag((230, 120), (230, 121))  # no skeleton class yet: the page asks
    screen.new_class("person")
    screen.until("!document.querySelector('dialog')")
    screen.drag((230, 120), (290, 220))
    skeleton = drawn(7)
    assert skeleton["type"] == "graph"
    assert len(skeleton["geometry"]["nodes"]) == 14


def test_a_figure_is_moved_resized_undone_and_done_again(screen: Screen, bench: Bench, video: int) -> None:
    bench.add_box(video, bench.add_class(video, "thing"), 0, 50, 60, 99, 109)
    screen.open(video)

    def corners() -> list[list[int]]:
        return [point for f in bench.figures(video) for point in f["geometry"]["points"]["exterior"]]

    screen.drag((75, 85), (95, 95))
    wait(lambda: near(corners(), [[70, 70], [119, 119]]), "the move")
    screen.drag((120, 120), (150, 140))
    wait(lambda: near(corners(), [[70, 70], [149, 139]]), "the resizing")
    screen.press("Control+z")
    wait(lambda: near(corners(), [[70, 70], [119, 119]]), "the undoing")
    screen.press("Control+z")
    wait(lambda: corners() == [[50, 60], [99, 109]], "the undoing")
    screen.press("Control+y")
    wait(lambda: near(corners(), [[70, 70], [119, 119]]), "the redoing")
    screen.until("annotator.S.history.redo !== null")
    screen.press("Delete")
    wait(lambda: not bench.figures(video), "the deleting")
    screen.page.reload()  # what can be undone outlives the page
    screen.until("window.annotator?.S.history.undo")
    screen.button("Undo")
    wait(lambda: near(corners(), [[70, 70], [119, 119]]), "the undoing after a reload")


def test_figures_are_copied_to_the_next_frame(screen: Screen, bench: Bench, video: int) -> None:
    bench.add_box(video, bench.add_class(video, "thing"), 0, 50, 60, 99, 109)
    screen.open(video)
    screen.click(75, 85)
    screen.press("c")
    screen.until("annotator.view.shown === 1")
    assert [f["frame"] for f in bench.figures(video)] == [0, 1]
    assert all(f["key"] for f in bench.figures(video))
    screen.button("Previous key figure")
    screen.until("annotator.view.shown === 0")


def test_one_object_gets_its_figures_on_other_frames(screen: Screen, bench: Bench, video: int) -> None:
    ident = bench.add_box(video, bench.add_class(video, "thing"), 0, 50, 60, 99, 109)
    screen.open(video)
    screen.click(75, 85)
    screen.go_to(9)
    screen.press("b")
    screen.drag((100, 60), (150, 110))
    wait(lambda: len(bench.figures(video)) == 2, "the second figure")
    assert {f["objectId"] for f in bench.figures(video)} == {ident}
    assert len(bench.objects(video)) == 1


def test_a_large_mask_on_a_large_picture(screen: Screen, bench: Bench, large: int) -> None:
    bench.add_class(large, "thing")
    screen.open(large)
    screen.press("m")
    screen.drag((400, 400), (1500, 800), (400, 800))
    (mask,) = wait(lambda: bench.figures(large), "the mask")
    x, y = mask["geometry"]["bitmap"]["origin"]
    assert abs(x - 388) <= 3
    assert abs(y - 388) <= 3
