"""For all tests: one thread per process, since pytest-xdist already runs one process per core, and no time limits."""

import atexit
import gc
import os
import sys
import types
from collections.abc import Iterator

os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The SDK, while it is imported, imports every module on the call stack by name. A worker of pytest-xdist has one on its
# stack that is no real module.
sys.modules.setdefault("__channelexec__", types.ModuleType("__channelexec__"))

import pytest  # noqa: E402 - after the environment is set
from hypothesis import settings  # noqa: E402

# How long an example takes says how busy the machine is, not whether the code is right. The same examples every time: a
# failure belongs to the change that it is seen with. HYPOTHESIS_PROFILE=search looks at others each time.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """A test that leaves this thread with a real-time priority fails: every process that later tests start would have it
    too, and could leave next to nothing of the machine to all others."""
    yield
    if hasattr(os, "sched_getscheduler") and (policy := os.sched_getscheduler(0)) in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        pytest.fail(f"the test left its thread with the real-time scheduling policy {policy}")


def pytest_collection_finish() -> None:
    """The libraries, a million objects, stay: no collection of garbage needs to go through them again and again."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # as Python ends, libraries report objects that were not given back


# An app that a test starts as a process of its own: it cannot be imported outside of one.
collect_ignore = ["apps/workbench/sdk_tracker.py"]
