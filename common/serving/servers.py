"""Connections to servers, kept per caller."""

from __future__ import annotations

import threading
from collections import OrderedDict

from common.serving.access import Caller
from common.supervisely_io.server import Server


class Servers:
    """The servers of the callers who asked last, `most` of them. Thread-safe."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, Server] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, caller: Caller) -> Server:
        """That caller's server as they see it. Raises `UserError` for a token that cannot be one."""
        with self._lock:
            server = self._kept.pop(caller.fingerprint, None)
            if server is None:
                server = Server(caller.address, caller.token)
            self._kept[caller.fingerprint] = server
            # jobs may still use the one that goes: its sockets end with it
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return server

    def close(self) -> None:
        with self._lock:
            for server in self._kept.values():
                server.close()
            self._kept.clear()
