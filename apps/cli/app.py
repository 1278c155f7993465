"""The commands, put together."""

from __future__ import annotations

import typer

from apps.cli import associate, demo, evaluate, label, models, predict, run, track

app = typer.Typer(
    help="Video labeling by tracking: label an object once, get it labelled in every other frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(track.track)
app.command()(predict.predict)
app.command()(label.label)
app.command()(associate.associate)
app.command()(demo.demo)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")
