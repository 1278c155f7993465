"""What the suite's apps have in common, imported once by the process that they are forked from.

Whatever is imported here must start no thread and read no environment variable that differs between apps.
"""

from __future__ import annotations

import gc

# ruff: noqa: F401  (importing them is all that this module is for)
import uvicorn.lifespan.on
import uvicorn.loops.auto
import uvicorn.main
import uvicorn.protocols.http.auto

import apps.auto_track.main
import apps.labeling_assistant.main
import apps.predict.main
import common.serving.app
import common.serving.detection_app
import common.serving.smart_sam2

# What is here stays: the collector of a fork need not look through it, which would also copy its memory.
gc.collect()
gc.freeze()
