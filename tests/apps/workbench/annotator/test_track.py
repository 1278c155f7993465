"""Track on the page: what happens, how it is stopped and corrected, and what a reload or a killed server leaves of it."""

from __future__ import annotations

from tests.apps.workbench.annotator.browser import Bench, Screen, square, wait


def start(screen: Screen, tracking: Bench, video: int) -> int:
    """A box around the square of the first frame; the page knows that Auto Track is there."""
    x, y = square(0, 320, 240)
    ident = tracking.add_box(video, tracking.add_class(video, "thing"), 0, x, y, x + 47, y + 47)
    screen.open(video)
    screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    return ident


def frames(bench: Bench, video: int) -> list[int]:
    return [f["frame"] for f in bench.figures(video)]


def left(bench: Bench, video: int, frame: int) -> float:
    return float(bench.figures(video, frame, frame)[0]["geometry"]["points"]["exterior"][0][0])


def test_a_tracked_range_is_accepted_or_removed_as_a_whole(screen: Screen, tracking: Bench, video: int) -> None:
    start(screen, tracking, video)
    x, y = square(30, 320, 240)
    tracking.apply(video, {"op": "add_figure", "frame": 30, "objectId": tracking.objects(video)[0]["id"],
                           "geometryType": "rectangle", "geometry": box(x, y, 47)})  # fmt: skip
    screen.open(video)
    screen.page.get_by_label("How far").select_option(label="to the end")
    screen.press("t")
    wait(lambda: frames(tracking, video) == list(range(48)), "tracking")
    screen.until("annotator.S.tracks.size === 0")
    screen.until("[...annotator.S.codes.values()][0].every((code) => code !== 0)")
    screen.go_to(40)
    screen.button("Remove the tracked range")
    wait(lambda: frames(tracking, video) == list(range(31)), "the removal of what follows the second key figure")
    screen.go_to(10)
    screen.press("Shift+A")
    wait(lambda: all(figure["key"] for figure in tracking.figures(video)), "acceptance up to the second key figure")
    screen.until("document.getElementById('range-accept').disabled")
    screen.press("Control+z", "Control+z")
    wait(lambda: frames(tracking, video) == list(range(48)), "undoing both")
    assert sorted(f["frame"] for f in tracking.figures(video) if f["key"]) == [0, 30]
    screen.open(video)
    screen.page.get_by_role("button", name="Choose trackers").click()
    assert "figures a second (320 x 240)" in screen.page.get_by_role("dialog").inner_text()


def box(x: int, y: int, side: int) -> dict[str, object]:
    return {"points": {"exterior": [[x, y], [x + side, y + side]], "interior": []}}


def test_so_many_frames_both_ways_then_correct_and_track_on(screen: Screen, tracking: Bench, video: int) -> None:
    x, y = square(20, 320, 240)
    tracking.add_box(video, tracking.add_class(video, "thing"), 20, x, y, x + 47, y + 47)
    screen.open(video, 20)
    screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    screen.button("Track both ways")
    screen.page.get_by_label("How far").select_option(label="so many frames")
    screen.page.get_by_label("Number of frames").fill("6")
    screen.page.get_by_label("Number of frames").press("Enter")
    screen.page.get_by_label("Number of frames").blur()
    screen.press("t")
    wait(lambda: frames(tracking, video) == list(range(14, 27)), "tracking both ways")
    screen.until("annotator.S.tracks.size === 0")
    screen.page.get_by_label("Track after every change").check()
    screen.button("Track forward")
    screen.go_to(24)
    screen.click(square(24, 320, 240)[0] + 24, y + 24)
    screen.until("annotator.S.chunks.get(0)?.byFrame.get(24)?.length > 0")
    corner = screen.get("annotator.S.chunks.get(0).byFrame.get(24)[0].geometry.points.exterior[1]")
    screen.drag((corner[0] + 1, corner[1] + 1), (corner[0] + 9, corner[1] + 9))
    wait(lambda: tracking.figures(video, 24, 24)[0]["key"], "the correction")
    wait(lambda: frames(tracking, video) == list(range(14, 31)), "tracking from the correction")
    screen.until("annotator.S.tracks.size === 0")


def test_stop_ends_it_and_keeps_what_there_is(screen: Screen, tracking: Bench, long: int) -> None:
    start(screen, tracking, long)
    screen.press("t")
    wait(lambda: len(frames(tracking, long)) > 2, "the first figures")
    screen.page.get_by_role("button", name="Stop tracking").click()
    screen.until("annotator.S.tracks.size === 0")
    done = len(frames(tracking, long))
    assert done < 1000
    screen.page.wait_for_timeout(1500)
    assert len(frames(tracking, long)) == done


def test_a_reload_and_a_killed_server_lose_nothing(screen: Screen, tracking: Bench, large: int) -> None:
    kind = tracking.add_class(large, "thing")
    x, y = square(0, 1920, 1080)
    for n in range(2):
        tracking.add_box(large, kind, 0, x + n, y + n, x + 215, y + 215)
    screen.open(large)
    screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    screen.press("t")
    wait(lambda: len(frames(tracking, large)) > 2, "the first figures")
    screen.page.reload()
    screen.until("window.annotator?.view.shown >= 0")  # the frame to which it had followed
    tracking.kill()
    screen.until("!document.getElementById('offline').hidden")
    tracking.start()
    screen.until("document.getElementById('offline').hidden")
    wait(lambda: sorted(frames(tracking, large)) == sorted(list(range(24)) * 2), "the rest of the figures")
    screen.until("[...annotator.S.codes.values()].every((codes) => codes.every((code) => code !== 0))")
    screen.press("b")
    screen.drag((1200, 300), (1500, 600))
    wait(lambda: len(tracking.objects(large)) == 3, "drawing after the crash")


def test_the_smart_tool_makes_a_mask(screen: Screen, tracking: Bench, video: int) -> None:
    start(screen, tracking, video)
    x, y = square(0, 320, 240)
    screen.press("Escape", "s")
    screen.drag((x - 6, y - 6), (x + 54, y + 54))
    (mask,) = wait(lambda: [f for f in tracking.figures(video) if f["type"] == "bitmap"], "the mask")
    assert mask["smart"]["crop"]
    screen.until("annotator.view.figure === " + str(mask["id"]))
    screen.click(x + 40, y + 40)
    wait(
        lambda: len(next(f for f in tracking.figures(video) if f["type"] == "bitmap")["smart"]["positive"]) == 2,
        "the click",
    )


def test_the_page_of_an_app_opens_from_here(screen: Screen, tracking: Bench, video: int) -> None:
    screen.open(video)
    screen.until("annotator.T.apps.some((app) => app.autoTrack && app.ready)")
    screen.button("Apps on this machine")
    with screen.page.context.expect_page() as opened:
        screen.page.get_by_role("link", name="Open its page").click()
    page = opened.value
    page.get_by_role("heading", name="Auto Track").wait_for()
    assert tracking.token not in page.url
    wait(lambda: page.locator("select").count() > 3, "the settings of the app")
