"""The commands, put together; only those are loaded that are asked for, because some load many libraries."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer

COMMANDS = ("run", "track", "predict", "label", "associate", "demo")
GROUPS = ("evaluate", "models")
"""Each is a module of this package: a command is its function of that name, a group its `app`."""


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """What understands these arguments: the command they begin with, or all where they name none (help, a slip)."""
    app = typer.Typer(
        help="Video labeling by tracking: label an object once, get it labelled in every other frame.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_together)
    asked = arguments[0] if arguments else None
    names = (asked,) if asked in (*COMMANDS, *GROUPS) else (*COMMANDS, *GROUPS)
    for name in names:
        module = import_module(f"apps.cli.{name}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command()(getattr(module, name))
    return app


def _together() -> None:
    """A lone command would lose its name; with this it does not."""
