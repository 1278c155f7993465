"""Cloud billing: figures are reserved before they are predicted and paid for once they are stored.

Only for requests that bring an account (two headers of the platform), and only where the Supervisely SDK offers it. Each
reservation is settled exactly once, with the number of figures that were stored under it, none included.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.auto_track import messages
from common.errors import UserError
from common.serving.access import Caller
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)

TOKEN_HEADER, ACTION_HEADER = "x-sly-cloud-token", "x-sly-cloud-action-id"
PORTION = 64
"""Figures reserved at once, when so many are to come."""


@dataclass(frozen=True)
class Account:
    """Who pays for a request. Neither field is ever logged or written down."""

    token: str = field(repr=False)
    action_id: str = field(repr=False)


def account_of(headers: Mapping[str, str]) -> Account | None:
    """None unless both headers are there."""
    token, action = headers.get(TOKEN_HEADER), headers.get(ACTION_HEADER)
    return Account(token, action) if token and action else None


class Cloud(Protocol):
    """Raises `UserError`."""

    def reserve(self, items: int) -> Any:
        """The transaction's id."""
        ...

    def withdraw(self, items: int, transaction: Any) -> None: ...


class SdkCloud:
    """`api.cloud` of the SDK, as the builds of the SDK that have it define it. Made by `cloud_of`."""

    def __init__(self, methods: Any, user_id: int, account: Account) -> None:
        self._methods, self._user_id, self._account = methods, user_id, account

    def reserve(self, items: int) -> Any:
        account = self._account
        try:
            reply = self._methods.billing_reserve(self._user_id, items, account.token, account.action_id)
            return reply["transactionId"]
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises, requests' errors and more
            # its message may hold the request, and that holds the token
            raise UserError(messages.CANNOT_RESERVE) from _nameless(error)

    def withdraw(self, items: int, transaction: Any) -> None:
        account = self._account
        try:
            self._methods.billing_withdrawal(self._user_id, items, transaction, account.token, account.action_id)
        except Exception as error:  # noqa: BLE001
            raise UserError(messages.CANNOT_WITHDRAW) from _nameless(error)


def _nameless(error: Exception) -> Exception:
    return RuntimeError(f"{type(error).__name__} in the SDK's cloud billing")


def cloud_of(account: Account | None, caller: Caller, server: Server) -> Cloud | None:
    """None without an account, and where the SDK knows no cloud billing. Raises as `Server.call`."""
    if account is None:
        return None
    import supervisely as sly  # takes seconds; nobody else here needs it

    methods = getattr(sly.Api(caller.address, caller.token), "cloud", None)
    if not all(callable(getattr(methods, name, None)) for name in ("billing_reserve", "billing_withdrawal")):
        log.warning(
            "a request asks for cloud billing, which this SDK (%s) does not know; nothing is billed", sly.__version__
        )
        return None
    return SdkCloud(methods, int(server.call("users.me")["id"]), account)


@dataclass
class _Reservation:
    """end: how many figures of the session are reserved with it and those before."""

    cloud: Cloud
    transaction: Any
    items: int
    end: int


class Bill:
    """What one session owes. `stored` may be called from any thread, the rest by the session's own.

    Figures are counted in the order in which they are given out, which is the order in which they are stored.

    warn: told a labeler. note: given what is owed whenever that changes, to outlive a crash.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        note: Callable[[list[list[Any]]], None] = lambda owed: None,
        portion: int = PORTION,
    ) -> None:
        self._warn, self._note, self._portion = warn, note, portion
        self._cloud: Cloud | None = None
        self._open: deque[_Reservation] = deque()
        self._reserved = self._given = self._done = self._stored = 0
        self._lock = threading.Lock()
        self._inherited: list[tuple[Any, int]] = []

    def inherit(self, owed: Iterable[Sequence[Any]]) -> None:
        """What an earlier session of the track owed when it crashed: settled with the first account that comes."""
        self._inherited = [(transaction, int(items)) for transaction, items in owed]

    def owed(self) -> list[list[Any]]:
        """Transactions that are open, and how many figures each will pay for as far as is known; no token."""
        with self._lock:
            stored = self._stored
        found: list[list[Any]] = [[transaction, items] for transaction, items in self._inherited]
        for reservation in self._open:
            items = min(stored, reservation.items)
            stored -= items
            found.append([reservation.transaction, items])
        return found

    def write_down(self) -> None:
        if self._open:
            self._note(self.owed())

    def charge(self, cloud: Cloud | None) -> None:
        """Who pays from the next reservation on; None = nobody."""
        self._cloud = cloud

    def ahead(self, now: Callable[[], int], left: Callable[[], int]) -> None:
        """Before figures are predicted: reserves for those of now, and for more when more are left. Raises `UserError`."""
        if self._cloud is None:
            return
        self._settle_inherited(self._cloud)
        self._settle_finished()
        short = self._given + now() - self._reserved
        if short > 0:
            self._reserve(self._cloud, max(short, min(self._portion, left())))

    def given(self, figures: int) -> None:
        """So many are on their way to the server."""
        self._given += figures

    def stored(self, figures: int, kept: int) -> None:
        """So many have arrived, of which the server kept `kept`: those are paid for."""
        with self._lock:
            self._done += figures
            self._stored += min(kept, figures)

    def settle(self) -> None:
        """Ends every reservation: pays for what was stored, gives the rest back. Does nothing the second time."""
        cloud = self._cloud
        with self._lock:
            unpaid = self._stored - sum(r.items for r in self._open)
        if cloud is not None and unpaid > 0:  # more came of a frame than was expected
            try:
                self._reserve(cloud, unpaid)
            except UserError as error:
                self._warn(str(error))
        failed = None
        while self._open:
            try:
                self._withdraw(self._open[0])
            except UserError as error:
                failed = error
            self._open.popleft()
        with self._lock:
            had = self._reserved > 0
            self._given = self._done = self._reserved = self._stored = 0
        if had:
            self._note(self.owed())
        if failed is not None:
            self._warn(str(failed))

    def _reserve(self, cloud: Cloud, items: int) -> None:
        transaction = cloud.reserve(items)
        self._reserved += items
        self._open.append(_Reservation(cloud, transaction, items, self._reserved))
        self._note(self.owed())

    def _settle_inherited(self, cloud: Cloud) -> None:
        if not self._inherited:
            return
        for transaction, items in self._inherited:
            try:
                cloud.withdraw(items, transaction)
            except UserError:
                log.warning("a reservation of an earlier run could not be settled")
        self._inherited = []
        self._note(self.owed())

    def _settle_finished(self) -> None:
        while self._open and self._done >= self._open[0].end:
            try:
                self._withdraw(self._open[0])
            except UserError:
                return  # tried again next time
            self._open.popleft()
            self._note(self.owed())

    def _withdraw(self, reservation: _Reservation) -> None:
        with self._lock:
            items = min(self._stored, reservation.items)
        reservation.cloud.withdraw(items, reservation.transaction)
        with self._lock:
            self._stored -= items
