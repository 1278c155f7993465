"""Failures on demand, so that tests can see how apps bear them. Mounted only when the settings say so."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.workbench.web import method_of

_FAR_MORE = b"1000000"


class FaultRule(BaseModel):
    """One kind of failure.

    method: REST method it befalls, "*" for all. skip: so many calls pass first; count: then so many are hit.
    delay_s: waited before anything else. status: that code instead of the answer. disconnect: the connection is cut in
    the middle of the answer. when: "before" the method runs, or "after" it did its work (the client cannot tell).
    A rule with only a delay lets the call through after it.
    """

    model_config = ConfigDict(extra="forbid")

    method: str = "*"
    status: int | None = Field(default=None, ge=400, le=599)
    delay_s: float = Field(default=0.0, ge=0.0, le=600.0)
    disconnect: bool = False
    when: Literal["before", "after"] = "before"
    skip: int = Field(default=0, ge=0)
    count: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class _Armed:
    rule: FaultRule
    skip: int
    count: int


class Faults:
    """The rules in force; each is used up by the calls it hits."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()

    def arm(self, rules: list[FaultRule]) -> None:
        with self._lock:
            self._armed.extend(_Armed(rule, rule.skip, rule.count) for rule in rules)

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def take(self, method: str) -> FaultRule | None:
        """The rule that befalls this call, if any; it counts as used."""
        with self._lock:
            for place, armed in enumerate(self._armed):
                if armed.rule.method not in ("*", method):
                    continue
                if armed.skip:
                    self._armed[place] = replace(armed, skip=armed.skip - 1)
                    continue
                if armed.count > 1:
                    self._armed[place] = replace(armed, count=armed.count - 1)
                else:
                    del self._armed[place]
                return armed.rule
        return None


class FaultMiddleware:
    """Applies the rules to calls of REST methods and to nothing else."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app, self._faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = method_of(scope)
        rule = None if method is None else self._faults.take(method)
        if rule is None:
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(rule.delay_s)
        if rule.status is None and not rule.disconnect:
            await self._app(scope, receive, send)
            return
        if rule.when == "after":

            async def swallow(_: Message) -> None:
                return None

            await self._app(scope, receive, swallow)
        if rule.status is not None:
            body = {"error": "Injected fault", "details": {"message": f"A test asked for status {rule.status} here."}}
            await JSONResponse(body, rule.status)(scope, receive, send)
            return
        # Announce more than is sent and return: the server can only close the connection, and the client sees it break.
        headers = [(b"content-type", b"application/json"), (b"content-length", _FAR_MORE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
