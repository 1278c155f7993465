"""Who may talk to the workbench: the holder of its token, which lies in a file that only its owner can read."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

TOKEN_FILE = "token"
ENV_FILE = "supervisely.env"


def load_token(data: Path) -> str:
    """The workbench's token, made at the first start. File mode 0600."""
    path = data / TOKEN_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    token = secrets.token_hex(64)  # 128 characters, as the platform's own tokens have
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def write_env(data: Path, address: str, token: str) -> Path:
    """The file that `supervisely.Api.from_env()` and the shell read; mode 0600. Its path."""
    path = data / ENV_FILE
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        # Without the last line the SDK would first try HTTPS on the same port at every start.
        file.write(
            f'SERVER_ADDRESS="{address}"\nAPI_TOKEN="{token}"\nSUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK="true"\n'
        )
    partial.replace(path)
    return path


def same(given: str, expected: str) -> bool:
    """Compares secrets in a time that does not tell how much of them agrees."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
