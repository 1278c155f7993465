"""`models`: what can track and detect here, under which licence, and whether its weights are on this machine."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from apps.cli.downloads import show_download
from common.errors import WeightsInvalid, WeightsMissing
from common.trackers import registry
from common.tracking.contract import TrackerCard
from common.weights.entries import Weights, catalogue
from common.weights.store import Store, recorded

app = typer.Typer(help="Trackers, detectors and their weights.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A name, as `models list` shows it.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """One line per tracker, then what else the catalogue has: detectors and the like."""
    cards = [registry.make(name).card for name in registry.names()]
    used = {card.weights for card in cards}
    others = [weights for name, weights in catalogue().entries.items() if name not in used]
    _tell_problems()
    if as_json:
        plain = [_plain(card, _weights_of(card)) for card in cards] + [_plain(None, weights) for weights in others]
        typer.echo(json.dumps(plain, indent=1))
        return
    table = Table(
        "name", "what", "tracks", "licence", "weights' licence", "weights",
        box=None, header_style="bold", pad_edge=False,
    )  # fmt: skip
    for card in cards:
        weights = _weights_of(card)
        table.add_row(card.name, card.title, _kinds(card), card.licence, _licence(card, weights), _state(card, weights))
    for weights in others:
        table.add_row(weights.name, weights.title, "-", weights.code_licence, _marked(weights), _state(None, weights))
    _print(table)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Everything known of one tracker or one set of weights."""
    card, weights = _find(name)
    plain = _plain(card, weights)
    if as_json:
        typer.echo(json.dumps(plain, indent=1))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for field, value in plain.items():
        if field != "files":
            table.add_row(field.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
    for file in plain.get("files", ()):
        table.add_section()
        for field, value in file.items():
            table.add_row(
                f"file's {field}" if field != "name" else "file", "not published" if value is None else str(value)
            )
    _print(table)


@app.command()
def download(
    name: Name, quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False
) -> None:
    """Fetch weights; run again, it continues where it stopped."""
    weights = _find(name)[1]
    if weights is None:
        typer.echo(f"{name} needs no weights: it is ready to use.")
        return
    if weights.non_commercial:
        terms = f"{weights.title}: weights under {weights.weights_licence}, for non-commercial use only."
        sys.stderr.write(f"Warning: {terms}\n")
    store = Store.from_env()
    with show_download(weights, quiet) as progress:
        paths = store.download(weights, progress)
    for path in paths:
        typer.echo(f"{path}  sha256 {_sha256(weights, store)[path.name]}")


@app.command()
def verify(name: Annotated[str | None, typer.Argument(help="Only these weights.", show_default=False)] = None) -> None:
    """Hash the weights on this machine again and compare: with what is published, else with what came first."""
    store = Store.from_env()
    chosen = [weights for weights in [_find(name)[1]] if weights] if name else list(catalogue().entries.values())
    _tell_problems()
    damaged, here = [], 0
    for weights in chosen:
        if name is None and not any(store.path(weights, file).is_file() for file in weights.files):
            continue
        here += 1
        try:
            store.verify(weights)
            typer.echo(f"{weights.name}: as it should be")
        except (WeightsInvalid, WeightsMissing) as error:
            damaged.append(weights.name)
            typer.echo(f"{weights.name}: {error}")
    if damaged:
        raise WeightsInvalid(f"{len(damaged)} of {here} cannot be used: {', '.join(damaged)}.")
    if not here:
        typer.echo(f"{name} needs no weights." if name else f"There are no weights in {store.folder} yet.")


def _find(name: str) -> tuple[TrackerCard | None, Weights | None]:
    """A tracker with its weights, or weights alone. Raises `EngineUnavailable` for a name of neither."""
    if name in registry.names():
        card = registry.make(name).card
        return card, _weights_of(card)
    return None, catalogue().find(name)


def _weights_of(card: TrackerCard) -> Weights | None:
    """Other people's trackers may bring weights that the catalogue does not know."""
    return catalogue().entries.get(card.weights) if card.weights else None


def _tell_problems() -> None:
    for problem in catalogue().problems:
        sys.stderr.write(f"Warning: {problem}\n")


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 200).print(table)  # no line is broken for a program that reads it


def _kinds(card: TrackerCard) -> str:
    return ", ".join(sorted(kind.replace("_", " ") for kind in card.geometries))


def _marked(weights: Weights) -> str:
    return weights.weights_licence + (" (non-commercial)" if weights.non_commercial else "")


def _licence(card: TrackerCard, weights: Weights | None) -> str:
    return _marked(weights) if weights else card.weights_licence or "-"


def _state(card: TrackerCard | None, weights: Weights | None) -> str:
    if weights is None:
        return "none needed" if card is None or card.weights is None else card.weights
    status = Store.from_env().status(weights)
    size = f", {weights.size / 1e6:.0f} MB" if weights.size else ""
    gated = ", gated" if weights.gated else ""
    return status if status == "here" else f"{status}{size}{gated}"


def _sha256(weights: Weights, store: Store) -> dict[str, str | None]:
    return {file.name: file.sha256 or recorded(store.path(weights, file)) for file in weights.files}


def _plain(card: TrackerCard | None, weights: Weights | None) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": "weights"}
    if card is not None:
        plain = {
            "kind": "tracker",
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
    elif weights is not None:
        plain |= {"name": weights.name, "title": weights.title, "licence": weights.code_licence}
        plain |= {"weights": weights.name, "weights_licence": weights.weights_licence, "paper": weights.paper}
    if weights is not None:
        store = Store.from_env()
        sums = _sha256(weights, store)
        plain |= {
            "code_licence": weights.code_licence,
            "weights_licence": weights.weights_licence,
            "non_commercial": weights.non_commercial,
            "gated": weights.gated,
            "input_size": weights.input_size,
            "memory_mib": weights.memory_mib,
            "notes": weights.notes,
            "weights_status": store.status(weights),
            "files": [
                {
                    "name": f.name,
                    "url": f.url,
                    "bytes": f.size,
                    "sha256": sums[f.name],
                    "path": str(store.path(weights, f)),
                }
                for f in weights.files
            ],
        }
    return plain
