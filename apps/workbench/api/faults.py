"""Arming and clearing injected failures. Mounted only for tests."""

from __future__ import annotations

from fastapi import APIRouter

from apps.workbench.api.bodies import SUCCESS
from apps.workbench.bench import Bench
from apps.workbench.faults import FaultRule

page_router = APIRouter(prefix="/workbench/faults")


@page_router.post("")
def arm(rules: list[FaultRule], bench: Bench) -> dict[str, bool]:
    bench.faults.arm(rules)
    return SUCCESS


@page_router.delete("")
def clear(bench: Bench) -> dict[str, bool]:
    bench.faults.clear()
    return SUCCESS
