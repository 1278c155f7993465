"""What an app is before it runs: how to start it, read from its config.json as the platform does."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError

CHECKS = ("/livez", "/is_alive")


@dataclass(frozen=True)
class AppSpec:
    """One app that can be started.

    name: the folder's name, by which the app is known here. argv: the command with "{port}" where its port goes.
    config: its config.json. env: added to the environment. health: path that answers 200 when the app is well.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    health: str = "/livez"

    def command(self, port: int) -> list[str]:
        return [part.replace("{port}", str(port)) for part in self.argv]


def read_spec(folder: Path, root: Path) -> AppSpec:
    """The spec of an app folder. root: where its command runs (the repository).

    The platform's entrypoint binds every address on a fixed port; here it binds this machine only, on a free port.
    Raises `UserError` when config.json is missing or has no entrypoint.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        entrypoint = config["entrypoint"]
        if not isinstance(entrypoint, str):
            raise TypeError("an entrypoint is text")
        parts = shlex.split(entrypoint)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder.name}/config.json does not say how to start the app (an entrypoint is needed)."
        ) from error
    if not parts:
        raise UserError(f"{folder.name}/config.json has an empty entrypoint.")
    if parts[0] in {"python", "python3"}:
        parts[0] = sys.executable
    return AppSpec(folder.name, tuple(_bind(_bind(parts, "--host", "127.0.0.1"), "--port", "{port}")), root, config)


def _bind(parts: list[str], option: str, value: str) -> list[str]:
    """The command with that option set, wherever and however it was."""
    result = [part for part in parts if not part.startswith(option + "=")]
    if option in result:
        place = result.index(option)
        return [*result[: place + 1], value, *result[place + 2 :]]
    return [*result, option, value]
