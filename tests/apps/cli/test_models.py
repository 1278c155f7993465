"""`models`, as a person runs it: what is there, what is not, and how it comes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apps.cli import models
from common.errors import UserError, WeightsInvalid
from common.weights import store as stores
from common.weights.entries import Catalogue, Weights, WeightsFile, catalogue
from common.weights.transfer import Rules
from tests.apps.cli.conftest import ROOT, Clip, Command
from tests.common.weights.web import Site, serving

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `models ...` in this process, with weights of a local server in the catalogue. Gives what it printed."""
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path / "store"))

    def do(site: Site | None, *parts: str) -> str:
        address = site.address if site else "https://example.org"
        toys = {
            name: Weights(name, f"The {name}", (WeightsFile(f"{name}.pth", f"{address}/{name}", size),), "MIT", licence, nc)
            for name, size, licence, nc in (("toy", 7000, "MIT", False), ("bear", None, "CC-BY-NC-4.0", True))
        }  # fmt: skip
        monkeypatch.setattr(models, "catalogue", lambda: Catalogue(toys, ("The catalogue file x.toml is broken.",)))
        if site:
            rules = Rules(frozenset({site.host}), waits_s=(0.0,))
            from_env = stores.Store.from_env

            def trusting() -> stores.Store:
                plain = from_env()
                return stores.Store(plain.folder, plain.mirror, plain.offline, plain.token, rules)

            monkeypatch.setattr(models.Store, "from_env", trusting)
        result = CliRunner().invoke(models.app, list(parts), standalone_mode=False)
        monkeypatch.undo()
        monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path / "store"))
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exception is None, result.exception
        return result.output

    return do


def test_a_life_of_weights(run: Run, tmp_path: Path) -> None:
    with serving(Site(CONTENT, cut_after=[3000])) as site:
        assert "not here, 0 MB" in run(site, "list")
        done = run(site, "download", "toy")
        assert SHA in done
        assert "The toy: 0.0/0.0 MB" in done
    (file,) = json.loads(run(None, "show", "toy", "--json"))["files"]
    assert (file["sha256"], Path(file["path"]).read_bytes()) == (SHA, CONTENT)
    assert "toy: as it should be" in run(None, "verify")
    assert " here" in run(None, "list")
    Path(file["path"]).write_bytes(b"wrong")
    with pytest.raises(WeightsInvalid, match="1 of 1 cannot be used: toy"):
        run(None, "verify")


def test_non_commercial_weights_say_so(run: Run) -> None:
    assert "CC-BY-NC-4.0 (non-commercial)" in run(None, "list")
    with serving(Site(CONTENT)) as site:
        assert "Warning: The bear: weights under CC-BY-NC-4.0, for non-commercial use only." in run(
            site, "download", "bear"
        )


def test_a_broken_family_is_told_and_harms_no_other(run: Run) -> None:
    assert "Warning: The catalogue file x.toml is broken." in run(None, "list")
    assert "as it should be" not in run(None, "verify")


def test_names_are_looked_up_among_trackers_and_weights(run: Run) -> None:
    assert "no weights" in run(None, "download", "flow")
    assert "needs no weights" in run(None, "verify", "flow")
    with pytest.raises(WeightsInvalid, match="'toi'"):
        run(None, "show", "toi")
    with pytest.raises(WeightsInvalid, match="1 of 1"):
        run(None, "verify", "toy")


def test_the_projects_own_models(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("VIDEO_TRACKING_OFFLINE", "1")
    listed = command("models", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    entries = json.loads(listed.stdout)
    assert {entry["name"] for entry in entries} >= {"correlation", "flow", "lucas-kanade"}
    wanted = {entry["weights"] for entry in entries} - {None}
    assert wanted >= set(catalogue().entries)
    for entry in entries:
        assert entry["weights"] is None or entry.get("weights_status", "not here") == "not here"
    assert "There are no weights in" in command("models", "verify").stdout
    for name in sorted(wanted)[:1]:
        refused = command("models", "download", name)
        assert refused.returncode == 2
        assert name in refused.stderr


def test_listing_loads_no_network_library() -> None:
    code = (
        "import sys; sys.argv = ['apps', 'models', 'list']\nfrom apps.__main__ import main\nassert main() == 0\n"
        "assert not {'torch', 'transformers', 'ultralytics', 'httpx'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--weights", "none.pth"], "needs no weights"),
        (["--device", "cuda"], "cpu"),
        (["--device", "tpu"], "choose auto"),
    ],
)
def test_options_that_do_not_fit_are_told(
    clip: Clip, command: Command, tmp_path: Path, extra: list[str], told: str
) -> None:
    done = command("track", clip.video, "--box", clip.box(), "--out", tmp_path / "out", *extra)
    assert done.returncode == 2
    assert told in done.stderr
