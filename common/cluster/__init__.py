"""One port for work that may run in this process or on a cluster."""

from __future__ import annotations

from typing import Literal

from common.cluster.contract import Executor
from common.cluster.local import LocalExecutor
from common.errors import UserError

ExecutorName = Literal["local", "ray"]
NAMES: tuple[ExecutorName, ...] = ("local", "ray")


def make_executor(name: str) -> Executor:
    """Raises `UserError` for a name that is not known, `EngineUnavailable` without Ray."""
    if name == "local":
        return LocalExecutor()
    if name == "ray":
        from common.cluster.on_ray import RayExecutor

        return RayExecutor()
    raise UserError(f"There is no executor {name!r}; choose {' or '.join(NAMES)}.")
