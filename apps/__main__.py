"""`python -m apps ...`: the command line.

Exit codes: 0 done; 2 the input was wrong (one line says what and how to mend it); 1 a fault of ours; 130 interrupted,
everything finished so far is kept and the same command resumes.
"""

from __future__ import annotations

import logging
import os
import sys

# Our matrices are small: more threads cost more than they bring, and results must not depend on their number.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import typer
from typer.exceptions import TyperException

from apps.cli import demo, evaluate, models, run, track
from common.errors import UserError

app = typer.Typer(
    help="Video labeling by tracking: label an object once, get it labelled in every other frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(track.track)
app.command()(demo.demo)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(models.app, name="models")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        code = app(arguments, standalone_mode=False, prog_name="python -m apps")
    except UserError as error:
        return _fail(str(error), 2)
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        return _fail(message, 2)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("Interrupted. What was finished is kept; the same command resumes.", 130)
    return int(code or 0)


def _fail(message: str, code: int) -> int:
    if message:  # a command without arguments has shown its help instead
        sys.stderr.write(f"{'Error: ' if code == 2 else ''}{' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
