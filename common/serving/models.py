"""Which model of an app tracks, with its weights: listed, downloaded, chosen, and remembered for the next start."""

from __future__ import annotations

import json
import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from common.errors import Interrupted, UserError
from common.serving.engines import Engines
from common.trackers import registry
from common.tracking.contract import TrackerCard
from common.weights.entries import Weights, catalogue
from common.weights.options import DEFAULT, EngineOptions
from common.weights.store import Store

log = logging.getLogger(__name__)


@dataclass
class _Download:
    """One under way, or how it ended. total: bytes of the file that is coming, None where the server does not say."""

    stop: threading.Event
    thread: threading.Thread | None = None
    done: int = 0
    total: int | None = None
    error: str | None = None
    ended: bool = False


class Models:
    """The models of one app. Thread-safe.

    file: where the choice is kept. first, options: what is chosen as long as nobody chose, "" = the app's own.
    """

    def __init__(self, engines: Engines, file: Path, first: str = "", options: EngineOptions = DEFAULT) -> None:
        self._engines, self._file, self._first = engines, file, first
        self._store = Store.from_env()
        self._downloads: dict[str, _Download] = {}
        self._lock = threading.Lock()
        self.options = options

    @property
    def learned(self) -> bool:
        """Whether a network tracks."""
        return any(registry.make(name).card.weights for name in self._own_names())

    def restore(self) -> None:
        """Chooses what was chosen before the app was started again. Raises `EngineUnavailable`, `WeightsMissing`."""
        name, options = self._remembered() or (self._first, self.options)
        if name:
            self._set(name, options)

    def choose(self, name: str, options: EngineOptions) -> None:
        """From now on. Raises `EngineUnavailable`, `WeightsMissing`: then all stays as it was."""
        self._set(name, options)
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({"name": name, "device": options.device, "precision": options.precision}))
        part.replace(self._file)

    def download(self, name: str) -> None:
        """Begins to fetch a model's weights, or goes on with what broke off; one at a time for each."""
        weights = _weights(registry.make(name).card)
        if weights is None:
            return
        with self._lock:
            before = self._downloads.get(weights.name)
            if before is not None and not before.ended:
                return
            made = self._downloads[weights.name] = _Download(threading.Event())
            made.thread = threading.Thread(target=self._fetch, args=(weights, made), name=f"download-{weights.name}")
            made.thread.daemon = True
            made.thread.start()

    def stop_download(self, name: str) -> None:
        """What came so far is kept."""
        with self._lock:
            found = self._downloads.get(registry.make(name).card.weights or "")
        if found is not None:
            found.stop.set()

    def close(self) -> None:
        with self._lock:
            downloads = list(self._downloads.values())
        for download in downloads:
            download.stop.set()
        for download in downloads:
            if download.thread is not None:
                download.thread.join(5.0)

    def describe(self) -> dict[str, Any]:
        """For the app's page."""
        names = self._own_names()
        cards = [registry.make(name).card for name in registry.names()]
        fitting = [card for card in cards if card.geometries & self._engines.names.keys()]
        return {
            "models": [{**self._describe(card), "chosen": card.name in names} for card in fitting],
            "device": self.options.device,
            "precision": self.options.precision,
            "memory_mib": round(psutil.Process().memory_info().rss / 2**20),
            "gpu_memory": gpu_memory(),
        }

    def _own_names(self) -> set[str]:
        return set(self._engines.names.values()) & set(registry.names())

    def _set(self, name: str, options: EngineOptions) -> None:
        weights = _weights(registry.make(name).card)
        if weights is not None and self._store.status(weights) == "not here":
            self._store.require(weights)  # says what to do
        self._engines.choose(name, options)
        self.options = options

    def _remembered(self) -> tuple[str, EngineOptions] | None:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            return str(kept["name"]), EngineOptions(device=kept["device"], precision=kept["precision"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the choice of model in %s cannot be read: %s", self._file.name, error)
            return None

    def _describe(self, card: TrackerCard) -> dict[str, Any]:
        weights = _weights(card)
        about: dict[str, Any] = {
            "name": card.name,
            "title": card.title,
            "geometries": sorted(card.geometries),
            "paper": card.paper,
            "licence": card.licence,
            "weights_licence": card.weights_licence,
            "memory_bound": card.memory_bound,
            "weights": "none needed" if card.weights is None else "not here",
        }
        if weights is None:
            return about
        with self._lock:
            download = self._downloads.get(weights.name)
        return {
            **about,
            "weights": self._store.status(weights),
            "weights_licence": weights.weights_licence,
            "non_commercial": weights.non_commercial,
            "by_hand": weights.files[0].url if weights.files[0].by_hand else None,
            "size": weights.size,
            "expected_memory_mib": weights.memory_mib,
            "command": weights.command,
            "download": None
            if download is None
            else {
                "done": download.done,
                "total": download.total,
                "running": not download.ended,
                "error": download.error,
            },
        }

    def _fetch(self, weights: Weights, download: _Download) -> None:
        def progress(done: int, total: int | None) -> None:
            download.done, download.total = done, total

        try:
            self._store.download(weights, progress, download.stop)
        except Interrupted:
            log.info("the download of %s was stopped", weights.name)
        except UserError as error:
            download.error = str(error)
            log.warning("%s was not downloaded: %s", weights.name, error)
        finally:
            download.ended = True


def gpu_memory() -> dict[str, int | None]:
    """Bytes that this process holds on its GPU, and what the GPU has; None without one, or while no network was loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"allocated": None, "total": None}
    return {"allocated": torch.cuda.memory_reserved(), "total": torch.cuda.mem_get_info()[1]}


def _weights(card: TrackerCard) -> Weights | None:
    """Other people's trackers may bring weights that the catalogue does not know."""
    return catalogue().entries.get(card.weights) if card.weights else None
