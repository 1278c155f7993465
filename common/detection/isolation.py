"""Imports of packages that change others when they are imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from PIL import Image as Pictures


@contextmanager
def unchanged() -> Iterator[None]:
    """What ultralytics replaces or sets for the whole process when it is imported is put back: how pictures are opened and
    written (its way may install packages), how tensors are saved and printed, OpenCV's threads, environment variables."""
    opened, saved, threads = Pictures.open, torch.save, cv2.getNumThreads()
    files = {name: getattr(cv2, name) for name in ("imread", "imwrite", "imshow")}
    printed, env = np.get_printoptions(), dict(os.environ)
    try:
        yield
    finally:
        Pictures.open = opened
        torch.save = saved
        for name, function in files.items():
            setattr(cv2, name, function)
        cv2.setNumThreads(threads)
        np.set_printoptions(**printed)
        torch.set_printoptions(profile="default")  # type: ignore[no-untyped-call]
        for name in set(os.environ) - set(env):
            del os.environ[name]
        os.environ.update(env)
