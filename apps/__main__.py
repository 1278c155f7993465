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

from common.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        # Loading the libraries takes a moment, and Ctrl-C may come in that moment too.
        from typer.exceptions import TyperException

        from apps.cli.app import app_for

        app = app_for(sys.argv[1:] if arguments is None else arguments)
        code = int(app(arguments, standalone_mode=False, prog_name="python -m apps") or 0)
    except UserError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        code = 130
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        return _fail(message, 2)
    return _fail("Interrupted. What was finished is kept; the same command resumes.", 130) if code == 130 else code


def _fail(message: str, code: int) -> int:
    if message:  # a command without arguments has shown its help instead
        sys.stderr.write(f"{'Error: ' if code == 2 else ''}{' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
