"""A person's way through the page, in a browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.apps.labeling_assistant.conftest import FRAMES, LABELLED, Assisting, Clip
from tests.apps.predict.test_page import browser_at


@pytest.mark.slow
def test_from_examples_to_the_review_queue(assistant: Assisting, clip: Clip) -> None:
    api = assistant.served.api
    project = api.project.get_info_by_id(api.dataset.get_info_by_id(clip.dataset).project_id)
    with browser_at(assistant.url) as page:
        page.wait_for_function("document.querySelectorAll('#project option').length > 1")
        assert page.is_disabled("#select") and page.is_disabled("#run")
        page.select_option("#project", label=project.name)
        page.wait_for_function("document.querySelectorAll('#video option').length === 2")
        page.select_option("#video", str(clip.video))
        page.wait_for_function("document.querySelectorAll('#classes tr').length === 2")
        assert "8 labels on 2 frames" in page.inner_text("#holds")
        page.fill("#budget", "1")
        page.click("#select")
        page.wait_for_function("document.getElementById('why').textContent.startsWith('Chosen')")
        assert page.locator("#table tr.chosen .bar").count() >= 1
        page.click("#run")
        page.wait_for_function("document.getElementById('state').textContent.startsWith('finished: 1 of 1')")
        page.wait_for_function("document.querySelectorAll('#review tr').length > 0")
        links: list[Any] = page.eval_on_selector_all("#review a", "found => found.map(one => one.href)")
        assert all(link.startswith(f"{assistant.served.settings.address}/#video={clip.video}&frame=") for link in links)
        assert "MiB" in page.inner_text("#videos")
        page.reload()
        page.wait_for_function("document.querySelectorAll('#review tr').length > 0")
        mended(assistant, clip, page)


def mended(assistant: Assisting, clip: Clip, page: Page) -> None:
    """A person corrects a figure in the annotator, has what depends on it mended, and exports: what they drew is there."""
    figures = assistant.figures(clip.video, clip.dataset)
    drawn = set(LABELLED)
    auto = sorted((one for one in figures if one["meta"]["frame"] not in drawn), key=lambda one: one["meta"]["frame"])
    one = next(one for one in auto if one["meta"]["frame"] > FRAMES // 2)
    (x1, y1), (x2, y2) = one["geometry"]["points"]["exterior"]
    shift = max(4, (x2 - x1) // 3)
    moved = [[x1 - shift if x1 >= shift else x1 + shift, y1], [x2 - shift if x1 >= shift else x2 + shift, y2]]
    edit = {"id": one["id"], "geometryType": "rectangle", "geometry": {"points": {"exterior": moved, "interior": []}}}
    assert assistant.served.call("figures.editInfo", {**edit, "nnUpdated": False}).status_code == 200
    page.wait_for_function("!document.getElementById('mend').disabled")
    page.click("#mend")
    page.wait_for_function("document.getElementById('said').textContent.endsWith('follow from your corrections.')")
    exported = assistant.served.api.video.annotation.download(clip.video)
    there = [f for frame in exported["frames"] if frame["index"] == one["meta"]["frame"] for f in frame["figures"]]
    assert moved in [figure["geometry"]["points"]["exterior"] for figure in there]
    assert len({frame["index"] for frame in exported["frames"] if frame["figures"]}) > 0.9 * FRAMES
