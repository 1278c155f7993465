"""Objects as a whole: merge, split, cut, absence, classes, review, and how usable the page is."""

from __future__ import annotations

from tests.apps.workbench.annotator.browser import Bench, Screen, wait


def tracked(bench: Bench, video: int, ident: int, scores: dict[int, float]) -> None:
    """Figures as a tracker writes them."""
    figures = [
        {
            "objectId": ident, "geometryType": "rectangle", "trackId": "t", "nnCreated": True, "nnUpdated": True,
            "geometry": {"points": {"exterior": [[50, 60], [99, 109]], "interior": []}}, "meta": {"frame": frame},
            "customData": {"score": score, "visible": True},
        }
        for frame, score in scores.items()
    ]  # fmt: skip
    bench.call("figures.bulk.add", entityId=video, figures=figures)


def two(bench: Bench, video: int) -> tuple[int, int]:
    kind = bench.add_class(video, "thing")
    first = bench.add_box(video, kind, 0, 50, 60, 99, 109)
    second = bench.add_box(video, kind, 10, 150, 60, 199, 109)
    return first, second


def test_objects_are_merged_and_split(screen: Screen, bench: Bench, video: int) -> None:
    first, _ = two(bench, video)
    screen.open(video)
    rows = screen.page.get_by_role("option")
    rows.nth(0).click()
    rows.nth(1).click(modifiers=["Shift"])
    screen.button("Merge the selected objects into one")
    wait(lambda: len(bench.objects(video)) == 1, "the merging")
    assert {f["objectId"] for f in bench.figures(video)} == {first}
    screen.until("annotator.S.objects.size === 1")
    rows.nth(0).click()
    screen.go_to(5)
    screen.button("Split the object at this frame")
    wait(lambda: len(bench.objects(video)) == 2, "the splitting")
    assert sorted(f["frame"] for f in bench.figures(video)) == [0, 10]
    screen.until("annotator.S.objects.size === 2")
    screen.button("Undo")
    screen.until("annotator.S.objects.size === 1")
    screen.button("Undo")
    screen.until("annotator.S.objects.size === 2")
    assert len({f["objectId"] for f in bench.figures(video)}) == 2


def test_figures_are_deleted_from_a_frame_on_and_absence_is_marked(screen: Screen, bench: Bench, video: int) -> None:
    first, _ = two(bench, video)
    tracked(bench, video, first, dict.fromkeys(range(1, 30), 0.9))
    screen.open(video, 20)
    screen.page.get_by_role("option").nth(0).click()
    screen.button("Delete from this frame on")
    wait(lambda: max(f["frame"] for f in bench.figures(video) if f["objectId"] == first) == 19, "the cutting")
    screen.button("Mark frames without the object")
    screen.page.get_by_label("From frame").fill("15")
    screen.page.get_by_label("to frame").fill("40")
    screen.button("Mark as absent")
    wait(lambda: bench.objects(video)[0]["absent"] == [[15, 40]], "the marking")
    assert max(f["frame"] for f in bench.figures(video) if f["objectId"] == first) == 14
    meta = bench.call("projects.meta", id=bench.own("GET", f"annotator/videos/{video}")["video"]["projectId"])
    assert [tag["name"] for tag in meta["tags"]] == ["no-objects"]


def test_review_goes_from_doubt_to_doubt_and_accepts(screen: Screen, bench: Bench, video: int) -> None:
    first, second = two(bench, video)
    tracked(bench, video, first, {n: {12: 0.2, 13: 0.3, 30: 0.1}.get(n, 0.9) for n in range(1, 40)})
    tracked(bench, video, second, {11: 0.9, 20: 0.9})  # frames 12 to 19 have none
    screen.open(video)
    screen.until("document.querySelectorAll('.doubt').length === 3")
    screen.press("n")
    screen.until(f"annotator.view.shown === 12 && [...annotator.S.selected][0] === {second}")
    screen.press("a")  # nothing is there
    wait(lambda: bench.objects(video)[1]["absent"] == [[12, 19]], "the gap's marking")
    screen.until(f"annotator.view.shown === 12 && [...annotator.S.selected][0] === {first}")
    screen.press("a")  # the figure is right
    wait(
        lambda: [f["frame"] for f in bench.figures(video, 1) if f["key"] and f["objectId"] == first] == [12],
        "the accepting",
    )
    screen.until("annotator.view.shown === 30")
    screen.press("a")
    screen.until("document.querySelectorAll('.doubt').length === 0")


def test_objects_are_hidden_and_change_their_class(screen: Screen, bench: Bench, video: int) -> None:
    two(bench, video)
    screen.open(video)
    screen.page.get_by_role("button", name="New class").click()
    screen.new_class("car")
    screen.page.get_by_role("option").nth(0).click()
    screen.page.get_by_label("Class of #1 thing").select_option(label="car")
    kind = bench.add_class(video, "car")
    wait(lambda: bench.objects(video)[0]["classId"] == kind, "the change of class")
    screen.page.get_by_role("button", name="Hide #1 car").click()
    screen.until("annotator.S.hidden.size === 1")


def test_another_page_shows_what_this_one_changes(screen: Screen, bench: Bench, video: int) -> None:
    screen.open(video)
    bench.add_box(video, bench.add_class(video, "thing"), 0, 50, 60, 99, 109)
    screen.until("annotator.S.objects.size === 1 && document.querySelectorAll('.object').length === 1")


def test_every_control_has_a_name_and_fits_the_window(screen: Screen, bench: Bench, video: int) -> None:
    two(bench, video)
    screen.open(video)
    nameless = """[...document.querySelectorAll("button, input, select, [role=slider], canvas:not([aria-hidden])")].filter((e) =>
      !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert screen.get(nameless) == []
    outside = """[...document.querySelectorAll("button, input, select")].filter((e) => e.checkVisibility()).map((e) => [e, e.getBoundingClientRect()])
      .filter(([e, b]) => b.width && (b.left < 0 || b.right > innerWidth + 1 || b.bottom > innerHeight + 1) && !e.closest("#objects, #review-list, #classes"))
      .map(([e]) => e.id || e.className)"""
    assert screen.get(outside) == []
    screen.press("?")
    assert screen.page.get_by_role("dialog", name="Keys").is_visible()
    assert "Next, previous doubtful frame" in screen.page.get_by_role("dialog").inner_text()
    assert screen.get(nameless) == []
    screen.press("Escape")
    before = screen.get("getComputedStyle(document.body).backgroundColor")
    screen.button("Light or dark")
    assert screen.get("getComputedStyle(document.body).backgroundColor") != before
