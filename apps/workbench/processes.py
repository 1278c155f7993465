"""How app processes come into being: as programs of their own, or as forks of one process that has loaded their modules.

Six apps load much the same two seconds' worth of modules. A fork of a process that holds them already is up in a tenth of a
second and shares their memory; apart from that it is a process like any other: its own session, environment, output.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Protocol


class AppProcess(Protocol):
    """A process in a session of its own, so that its group's number is its own. stdout: what it writes, errors too."""

    pid: int
    stdout: asyncio.StreamReader | None

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


async def start_program(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> AppProcess:
    """Raises OSError when it cannot be started."""
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # so that its own children end with it
    )


class Nursery:
    """Forks apps off a process that has imported a module. Where a fork is not safe, and for commands other than
    `python -m`, there is `start_program`.

    module: imported by that process; it must start no thread. If the process dies, the next start makes a new one, and
    whoever was forked off counts as ended. `start` and `close` belong to one event loop's thread.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        # starting waits until the module is imported; one at a time, because the context is not made for threads
        self._starter = ThreadPoolExecutor(1, "nursery")
        self._alive: set[ForkServerProcess] = set()

    @staticmethod
    def can_fork(command: Sequence[str]) -> bool:
        # elsewhere system libraries do not survive a fork (macOS), or there is none (Windows)
        return sys.platform == "linux" and list(command[:2]) == [sys.executable, "-m"] and len(command) > 2

    def warm(self) -> None:
        """Begins to import, in the background."""
        if sys.platform != "linux":
            return
        self._context.set_forkserver_preload([self._module])
        forkserver.ensure_running()

    async def start(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> AppProcess:
        """Raises OSError when it cannot be started."""
        if not self.can_fork(command):
            return await start_program(command, cwd, env)
        loop = asyncio.get_running_loop()
        starting = loop.run_in_executor(self._starter, self._fork, tuple(command), cwd, dict(env))
        try:
            process, output = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # the thread cannot be called back: what it started is ended as soon as it is known
            starting.add_done_callback(self._end_unwanted)
            raise
        except EOFError as error:  # the process that forks died meanwhile
            raise OSError("the process that starts apps ended") from error
        stdout = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(output, "rb", 0))
        return Forked(process, stdout, self._alive.discard)

    def _fork(self, command: tuple[str, ...], cwd: Path, env: dict[str, str]) -> tuple[ForkServerProcess, int]:
        self._context.set_forkserver_preload([self._module])
        reading, writing = os.pipe()
        output = Connection(writing, readable=False)
        try:
            process = self._context.Process(target=_become, args=(output, command, str(cwd), env))
            process.start()
            self._alive.add(process)
        except BaseException:
            os.close(reading)
            raise
        finally:
            output.close()
        return process, reading

    def _end_unwanted(self, starting: asyncio.Future[tuple[ForkServerProcess, int]]) -> None:
        if starting.cancelled() or starting.exception() is not None:
            return
        process, output = starting.result()
        os.close(output)
        self._kill(process)

    def _kill(self, process: ForkServerProcess) -> None:
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may not have its group yet
        process.join()
        self._alive.discard(process)

    def close(self) -> None:
        """Kills whoever is left. Without it a program that ends in a hurry would wait for them for ever."""
        self._starter.shutdown(cancel_futures=True)
        for process in list(self._alive):
            self._kill(process)


class Forked:
    """An `AppProcess` that was forked off."""

    def __init__(
        self, process: ForkServerProcess, stdout: asyncio.StreamReader, ended: Callable[[ForkServerProcess], None]
    ) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.stdout: asyncio.StreamReader | None = stdout
        self._process, self._ended = process, ended
        self._loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(process.sentinel, self._take_code)

    @property
    def returncode(self) -> int | None:
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def _take_code(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        code = self._process.exitcode
        self._ended(self._process)
        self._process.close()
        self._code.set_result(255 if code is None else code)


def _become(output: Connection, command: tuple[str, ...], cwd: str, env: dict[str, str]) -> None:
    """In the fork: turns into `python -m ...` with that folder and environment."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path.insert(0, cwd)
    module, *arguments = command[2:]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
