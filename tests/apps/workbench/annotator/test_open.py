"""`run` opens the browser of a desktop, and no text browser where there is no desktop."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apps.cli.run import show
from tests.apps.workbench.annotator.browser import wait


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the desktop is found by variables of Linux")
@pytest.mark.parametrize("desktop", [True, False])
def test_the_browser_is_opened_where_there_is_a_desktop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desktop: bool
) -> None:
    program = tmp_path / "browser.sh"
    program.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path / "opened"}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0" if desktop else "")
    monkeypatch.setattr("webbrowser._tryorder", None)  # what was found for another environment
    assert show("http://127.0.0.1:1/") == desktop
    if desktop:
        wait(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text(), "the opening")
        assert (tmp_path / "opened").read_text().strip() == "http://127.0.0.1:1/"
    else:
        assert not (tmp_path / "opened").exists()
