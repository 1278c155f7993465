"""What the platform asks of an app's config.json, as a list of what is wrong with one. Nothing is imported or run."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads(Path(__file__).with_name("config.schema.json").read_text())
ROOT_APP = "__ROOT_APP__"
LOCAL_ONLY = {"apps/workbench"}
"""Apps that are started on a laptop and never released: docs/packaging.md says why."""
NEEDED_FOR_RELEASE = ("docker_image", "task_location", "gpu", "headless")
EVERY_SHAPE = {"rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "polyline", "graph"}
SHAPES_OF_ENGINE = {
    "apps/box_tracker": {"rectangle"},
    "apps/mask_tracker": {"bitmap"},
    "apps/point_tracker": {"point", "polygon", "graph", "line"},
}
"""What each engine must take at least, so that together they cover what Auto Track offers."""


def problems(app: str, root: Path = ROOT) -> list[str]:
    """What is wrong with the config of an app, one sentence each; empty when all is well.

    app: its folder relative to the root, or `ROOT_APP`. The platform reads every path in a config from the root.
    """
    folder = root if app == ROOT_APP else root / app
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        return [f"config.json is not readable: {error}"]
    found = [
        f"{'.'.join(map(str, error.absolute_path)) or 'config'}: {error.message}"
        for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(config)
    ]
    if found:
        return found  # what follows relies on the types being right
    found += _entrypoint(config["entrypoint"], root)
    found += _files(config, root)
    if not (folder / "README.md").is_file():
        found.append("there is no README.md beside it")
    if app in LOCAL_ONLY:
        return found
    if not {"instance_version", "min_instance_version"} & config.keys():
        found.append("a released app says instance_version (or min_instance_version)")
    found += [f"a released app says {name}" for name in NEEDED_FOR_RELEASE if name not in config]
    if config.get("task_location") == "application_sessions" and "session_tags" not in config:
        found.append("others find a session by its session_tags, which are missing")
    found += _role(app, config)
    if app != ROOT_APP and (folder / "requirements.txt").exists():
        found.append("requirements.txt beside a config blocks the release")
    return found


def _entrypoint(entrypoint: str, root: Path) -> list[str]:
    """The module that is run exists; for a server also the name that is served, and it listens where the agent looks."""
    parts = shlex.split(entrypoint)
    module = parts[2]
    if module != "uvicorn":
        return [] if module_file(module, root) else [f"entrypoint: there is no module {module} to run"]
    options = dict(itertools.pairwise(parts[4:]))
    found = []
    if options.get("--host") != "0.0.0.0" or options.get("--port") != "8000":
        found.append("entrypoint: the agent reaches an app at 0.0.0.0, port 8000")
    where, _, name = (parts[3] if len(parts) > 3 else "").partition(":")
    file = module_file(where, root / options.get("--app-dir", "."))
    if file is None:
        return [*found, f"entrypoint: there is no module {where or '(none named)'}"]
    if not {name.split(".")[0], "__getattr__"} & top_level_names(file):  # a module may make its app when asked for it
        found.append(f"entrypoint: {where} has no {name or '(no name)'}")
    return found


def module_file(module: str, root: Path) -> Path | None:
    """The file of a dotted module under a root; for a package the one that `python -m` would run or an import would."""
    if not re.fullmatch(r"\w+(\.\w+)*", module):
        return None
    path = root / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__main__.py", path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def top_level_names(file: Path) -> set[str]:
    """Names that a module defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return names


def _files(config: Mapping[str, Any], root: Path) -> list[str]:
    named = {"modal_template": config.get("modal_template"), **config.get("files", {})}
    return [
        f"{field}: there is no file {path} in the repository"
        for field, path in named.items()
        if path is not None and not (root / path).is_file()
    ]


def _role(app: str, config: Mapping[str, Any]) -> list[str]:
    """Session tags, shapes and flags that only make sense together."""
    tags, shapes = set(config.get("session_tags", ())), set(config.get("allowed_shapes", ()))
    tracks, found = "sly_video_tracking" in tags, []
    if tracks != bool(shapes):
        found.append("allowed_shapes and the tag sly_video_tracking go together")
    if tracks and config.get("task_location") != "application_sessions":
        found.append("a tracker is a session (task_location application_sessions)")
    if config.get("is_auto_track") and not tracks:
        found.append("is_auto_track without the tag sly_video_tracking is never offered")
    if config.get("is_auto_track") and shapes != EVERY_SHAPE:
        found.append(f"Auto Track takes every shape; missing: {sorted(EVERY_SHAPE - shapes)}")
    if (app in {ROOT_APP, "apps/auto_track"}) != bool(config.get("is_auto_track", False)):
        found.append("is_auto_track is true for Auto Track, and for it alone")
    if missing := SHAPES_OF_ENGINE.get(app, set()) - shapes:
        found.append(f"this engine also takes {sorted(missing)}")
    device = str(config.get("docker_image", "")).partition(":")[0].rpartition("-")[2]
    if config.get("gpu") in {"required", "preferred"} and device != "gpu":
        found.append("an app that wants a GPU runs in the GPU image")
    return found


def fits_sdk(instance: str, sdk: str, versions: Mapping[str, str]) -> bool:
    """Whether the platform's release check takes an SDK with an instance version.

    versions: the SDK's table "from this instance on, at least this SDK". An SDK fits from the row of the instance's
    own version up to, and without, the SDK of the next row.
    """
    rows = sorted((numbers(row), numbers(least)) for row, least in versions.items())
    least = [row_sdk for row, row_sdk in rows if row <= numbers(instance)]
    below = [row_sdk for row, row_sdk in rows if row > numbers(instance)]
    return (not least or numbers(sdk) >= least[-1]) and (not below or numbers(sdk) < below[0])


def numbers(version: str) -> tuple[int, ...]:
    """ "6.9.31" as (6, 9, 31), so that versions compare as versions."""
    return tuple(map(int, version.split(".")))


def pinned(package: str, file: Path = ROOT / "requirements.txt") -> str:
    """The version a requirements file pins. Raises `LookupError` when it pins none."""
    match = re.search(rf"^{re.escape(package)}==(\S+)$", file.read_text(), re.MULTILINE)
    if match is None:
        raise LookupError(f"{file.name} does not pin {package}")
    return match[1]
