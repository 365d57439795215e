"""The stream worker that serves a replay: a process of its own, with its own consumer group, for as long as it runs."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Self

from replay.completion import Check
from replay.errors import WorkerFailed

_STOP_S = 15.0
_LOG_LINES = 12


@asynccontextmanager
async def stream_workers(count: int, environment: Mapping[str, str], nice: int) -> AsyncIterator[Check]:
    """So many workers, while the block lasts. Yields what raises ``WorkerFailed`` if one of them has ended."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(StreamWorker(environment, nice)) for _ in range(count)]

        async def check() -> None:
            for worker in workers:
                worker.check()

        yield check


class StreamWorker:
    """``python -m stream`` on the replay topic. Use as an async context manager."""

    def __init__(self, environment: Mapping[str, str], nice: int) -> None:
        """``environment`` is added to this process's own; it says topic, group and rules."""
        self._log = _log_file()
        own = {"TRACEWATCH_STREAM_PORT": str(_free_port()), "TRACEWATCH_REPLAY_NICE": str(nice)}
        self._environment = {**os.environ, **own, **environment}

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "replay.guarded_stream",
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C is for the replay, which then ends its worker.
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._log.close()
        if self._process.returncode == 0:
            os.unlink(self._log.name)  # noqa: PTH108 (no Path in a coroutine)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises ``WorkerFailed``, with its last words, if it has ended."""
        if self._process.returncode is not None:
            last_words = "\n  ".join(Path(self._log.name).read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise WorkerFailed(
                f"the stream worker of the replay ended with exit code {self._process.returncode}."
                f" Its last words in {self._log.name}:\n  {last_words}"
            )


def _free_port() -> int:
    """For the worker's pages, which nobody reads; those of a live worker on this machine keep theirs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _log_file() -> IO[bytes]:
    """Kept if the worker fails, so that a person can read all of it."""
    descriptor, path = tempfile.mkstemp(prefix="tracewatch-replay-worker-", suffix=".log")
    os.close(descriptor)
    return Path(path).open("wb")
