"""One port for work that may run in this process, in several of this machine, or on a cluster."""

from __future__ import annotations

from typing import Literal

from common.cluster.contract import Executor
from common.cluster.local import LocalExecutor
from common.errors import UserError

ExecutorName = Literal["local", "ray", "processes"]
NAMES: tuple[ExecutorName, ...] = ("local", "ray", "processes")


def make_executor(name: str, workers: int | None = None) -> Executor:
    """workers: most of them, where there may be several; None = as many as there is room for. Raises `UserError` for a name
    that is not known, `EngineUnavailable` without Ray."""
    if name == "local":
        return LocalExecutor()
    if name == "processes":
        from common.cluster.processes import ProcessExecutor

        return ProcessExecutor(workers)
    if name == "ray":
        from common.cluster.on_ray import RayExecutor, RayOptions

        return RayExecutor() if workers is None else RayExecutor(RayOptions(most=workers))
    raise UserError(f"There is no executor {name!r}; choose {' or '.join(NAMES)}.")
