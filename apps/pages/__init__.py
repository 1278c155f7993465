"""What the pages of apps share: one style for pages that lead through a job step by step."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

_STYLE = Path(__file__).with_name("jobs.css")


def add_style(app: FastAPI) -> None:
    """Serves it as `jobs.css`, beside the app's page: `<link rel="stylesheet" href="./jobs.css">`."""

    @app.get("/jobs.css")
    async def style() -> FileResponse:
        return FileResponse(_STYLE, media_type="text/css", headers={"cache-control": "no-cache"})
