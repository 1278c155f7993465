"""`python -m apps.workbench`: the workbench alone, with the apps that are named."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from apps.workbench.main import run
from apps.workbench.settings import Settings
from apps.workbench.specs import read_spec
from common.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Serves until interrupted; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m apps.workbench", description="A Supervisely instance for one machine."
    )
    parser.add_argument("--data", type=Path, default=Path("workbench-data"), help="folder for everything it keeps")
    parser.add_argument("--host", default="127.0.0.1", help="anything but 127.0.0.1 shows it to the network")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument(
        "--app", type=Path, action="append", default=[], help="folder of an app to start with it (repeatable)"
    )
    parser.add_argument(
        "--link-host",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="images may be added by link from here, too, though it is no public machine; may be repeated",
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and session tokens are in some
    try:
        specs = [read_spec(folder, Path.cwd()) for folder in given.app]
        run(
            Settings(given.data, given.host, given.port, link_hosts=frozenset(given.link_host)),
            specs,
            [spec.name for spec in specs],
        )
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
