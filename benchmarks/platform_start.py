"""How long `python -m apps run` takes until people can label, and what that costs.

    python benchmarks/platform_start.py [--runs N]

Each run has a fresh data folder, so the demonstration clip is drawn and imported. Wall clock time until the workbench
answers, until Auto Track and the trackers answer, and until every app does; CPU seconds (user + system) of all processes
together up to then, and their memory (proportional set size: shared pages count once).
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

LABELING = ("auto_track", "box_tracker", "mask_tracker", "point_tracker")
_PATIENCE_S = 180.0


@dataclass(frozen=True)
class Start:
    """One start. Seconds of the clock but for cpu_s; memory_mib once everything is up."""

    page_s: float
    labeling_s: float
    all_s: float
    cpu_s: float
    memory_mib: float


def measure(data: Path) -> Start:
    """Starts the suite, waits until every app is up, ends it."""
    began = time.monotonic()
    command = [sys.executable, "-m", "apps", "run", "--port", "0", "--data", str(data), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        env = _wait(lambda: _env(data / "supervisely.env"), process, began)
        url, headers = f"{env['SERVER_ADDRESS']}/public/api/v3/tasks.list", {"x-api-key": env["API_TOKEN"]}

        def started(names: tuple[str, ...] | None) -> bool:
            # one request at a time, seldom: asking costs what is measured
            reply = httpx.post(url, json={"filter": []}, headers=headers, timeout=30)
            tasks = [task for task in reply.json()["entities"] if names is None or task["meta"]["name"] in names]
            return len(tasks) >= len(names or "x" * 6) and all(task["status"] == "started" for task in tasks)

        _wait(lambda: httpx.get(f"{env['SERVER_ADDRESS']}/livez", timeout=30).status_code == 200, process, began)
        page = time.monotonic() - began
        _wait(lambda: started(LABELING), process, began)
        labeling = time.monotonic() - began
        _wait(lambda: started(None), process, began)
        whole = time.monotonic() - began
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        # with the clip's painter, which has ended and counts as a child of the first
        cpu = sum(sum(one.cpu_times()[:4]) for one in family)
        memory = sum(one.memory_full_info().pss for one in family) / 2**20
        return Start(page, labeling, whole, cpu, memory)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _env(path: Path) -> dict[str, str] | None:
    if not path.exists():
        return None
    lines = path.read_text().replace('"', "").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _wait(ready, process: subprocess.Popen[bytes], began: float):  # type: ignore[no-untyped-def]
    while True:
        try:
            if found := ready():
                return found
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() - began > _PATIENCE_S:
            raise SystemExit("The suite did not come up.")
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print("| run | workbench, s | labeling apps, s | all apps, s | CPU, s | memory, MiB |")
    print("|---|---|---|---|---|---|")
    for number in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            one = measure(Path(folder) / "data")
        print(
            f"| {number + 1} | {one.page_s:.1f} | {one.labeling_s:.1f} | {one.all_s:.1f} | {one.cpu_s:.1f} "
            f"| {one.memory_mib:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
