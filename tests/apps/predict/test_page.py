"""A person's way through the page, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from apps.predict import pictures
from tests import chromium
from tests.apps.detector.harness import BrightDetector, picture
from tests.apps.predict.conftest import Predicting, Project

PATIENCE_MS = 60_000


@pytest.fixture
def page(predict: Predicting) -> Iterator[object]:
    with browser_at(predict.url) as opened:
        yield opened


@contextmanager
def browser_at(url: str) -> Iterator[Any]:
    """An app's page, which must raise no error and load nothing from elsewhere."""
    if chromium.find() is None:
        pytest.skip(chromium.MISSING)
    with chromium.launched() as browser:
        opened = browser.new_page()
        opened.set_default_timeout(PATIENCE_MS)
        faults: list[str] = []
        elsewhere: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("request", lambda asked: elsewhere.append(asked.url))
        opened.goto(url)
        yield opened
        assert faults == []
        own = (url, "blob:", "data:")
        assert [one for one in elsewhere if not one.startswith(own)] == [], "the page loads nothing from elsewhere"


@pytest.mark.slow
def test_from_project_to_labels(project: Project, page, predict: Predicting) -> None:  # type: ignore[no-untyped-def]
    # The project is there before the page is opened, which lists projects once.
    name = predict.served.api.project.get_info_by_id(project.id).name
    page.wait_for_function("document.querySelectorAll('#project option').length > 1")
    assert page.is_disabled("#run")
    page.select_option("#project", label=name)
    page.wait_for_function("document.querySelectorAll('#videos tr').length === 3")
    page.uncheck("#videos tr:nth-child(2) input")
    assert not page.is_visible("#row-iou")
    page.select_option("#mode", "iou_merge")
    assert page.is_visible("#row-iou")
    page.fill("#name", "From the page")
    page.click("#look")
    page.wait_for_function("document.getElementById('look-said').textContent.includes('frames')")
    page.wait_for_selector("#clip")
    page.click("#run")
    page.wait_for_function("document.getElementById('state').textContent.startsWith('finished')")
    status = predict.get("status")
    assert [row["video_id"] for row in status["videos"]] == [project.videos[0], project.videos[2]]
    assert predict.served.api.project.get_info_by_id(status["project_id"]).name.startswith("From the page")
    page.click("#no-classes")
    assert page.is_disabled("#run")
    page.reload()
    page.wait_for_function("document.getElementById('state').textContent.startsWith('finished')")


@pytest.mark.slow
def test_a_project_of_images(page, predict: Predicting, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(pictures, "make_detector", lambda settings: BrightDetector())
    api = predict.served.api
    made = api.project.create(1, "Pictures for the page", change_name_if_conflict=True)
    dataset = api.dataset.create(made.id, "all of them")
    api.image.upload_nps(dataset.id, ["a.png", "b.png"], [picture(30), picture(60)])
    page.reload()
    page.wait_for_function("[...document.querySelectorAll('#project option')].some(o => o.text.startsWith('Pictures'))")
    page.select_option("#project", label=made.name)
    page.wait_for_function("document.querySelectorAll('#videos tr').length === 1")
    assert "all of them" in page.inner_text("#videos")
    assert not page.is_visible("#row-tracker")
    page.click("#look")
    page.wait_for_function("document.getElementById('look-said').textContent.includes('new labels')")
    page.wait_for_selector("#still")  # seen once the picture is decoded
    assert not page.is_visible("#clip")
    page.select_option("#where", "source")
    page.click("#run")
    page.wait_for_function("document.getElementById('state').textContent.startsWith('finished: 2 of 2 images')")
    assert [one.labels_count for one in api.image.get_list(dataset.id)] == [1, 1]
