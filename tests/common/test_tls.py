"""Whom the process trusts, for all clients."""

from __future__ import annotations

import ssl

import pytest

from common.tls import trusted


def test_it_is_read_once_and_checks_whom_it_speaks_to() -> None:
    context = trusted()
    assert context is trusted()
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


def test_a_client_changes_nothing_for_the_others() -> None:
    trusted().set_alpn_protocols(["http/1.1"])  # as clients do before each connection
    with pytest.raises(AssertionError, match="the same protocol"):
        trusted().set_alpn_protocols(["h2"])
