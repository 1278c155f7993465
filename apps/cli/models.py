"""`models`: what can track here, under which licence, and whether its weights are on this machine."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.errors import EngineUnavailable
from common.trackers import registry
from common.tracking.contract import TrackerCard

app = typer.Typer(help="Trackers and their weights.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A tracker's name, as `models list` shows it.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """One line per tracker."""
    cards = [registry.make(name).card for name in registry.names()]
    if as_json:
        typer.echo(json.dumps([_plain(card) for card in cards], indent=1))
        return
    table = Table("name", "what", "tracks", "licence", "weights", box=None, header_style="bold", pad_edge=False)
    for card in cards:
        table.add_row(card.name, card.title, _kinds(card), card.licence, card.weights or "none needed")
    _print(table)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Everything known of one tracker."""
    card = registry.make(name).card
    if as_json:
        typer.echo(json.dumps(_plain(card), indent=1))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for field, value in _plain(card).items():
        table.add_row(field.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    _print(table)


@app.command()
def download(name: Name) -> None:
    """Fetch a tracker's weights."""
    card = registry.make(name).card
    if card.weights is None:
        typer.echo(f"{name} needs no weights: it is ready to use.")
        return
    raise EngineUnavailable(f"The weights of {name} cannot be downloaded by this version yet.")


@app.command()
def verify() -> None:
    """Check the weights on this machine against the catalogue."""
    needed = [name for name in registry.names() if registry.make(name).card.weights]
    typer.echo("All trackers are built in and need no weights." if not needed else "Not checked: " + ", ".join(needed))


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table)  # no line is broken for a program that reads it


def _kinds(card: TrackerCard) -> str:
    return ", ".join(sorted(kind.replace("_", " ") for kind in card.geometries))


def _plain(card: TrackerCard) -> dict[str, str | int | list[str] | None]:
    return {
        "name": card.name,
        "title": card.title,
        "geometries": sorted(card.geometries),
        "licence": card.licence,
        "weights": card.weights,
        "weights_licence": card.weights_licence,
        "memory_bound": card.memory_bound,
        "lookahead": card.lookahead,
        "paper": card.paper,
        "devices": list(card.devices),
    }
