"""A worker of the stream as a process of its own, to signal and to kill."""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from quickstart.process import ManagedProcess, free_port
from tests.services import ROOT

READY_TIMEOUT_S = 40.0

#: Short times, so that tests need not wait for what seconds and minutes do in production.
QUICK = {
    "TRACEWATCH_STREAM_SETTLE_S": "0.5",
    "TRACEWATCH_STREAM_IDLE_S": "2",
    "TRACEWATCH_STREAM_WINDOW_GRACE_S": "1",
    "TRACEWATCH_STREAM_COMMIT_INTERVAL_S": "0.3",
    "TRACEWATCH_STREAM_SESSION_TIMEOUT_S": "3",
}


class StreamWorker:
    """``python -m stream`` with a free port for its pages."""

    def __init__(self, environment: Mapping[str, str], log_path: Path, **settings: str) -> None:
        self.port = free_port()
        knobs = {f"TRACEWATCH_STREAM_{name.upper()}": value for name, value in settings.items()}
        self._process = ManagedProcess(
            "stream",
            [sys.executable, "-m", "stream"],
            log_path=log_path,
            env={**environment, **QUICK, **knobs, "TRACEWATCH_STREAM_PORT": str(self.port)},
            cwd=ROOT,
        )

    def start(self) -> Self:
        """Start; returns at once."""
        self._process.start()
        return self

    def ready(self) -> Self:
        """Wait until it reads partitions."""
        self._process.wait_until(lambda: (self.metric("rebalances_total") or 0) > 0, timeout_s=READY_TIMEOUT_S)
        return self

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()

    def freeze(self) -> None:
        """As a machine that is out of breath would: SIGSTOP, until ``thaw``."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on where it was."""
        os.kill(self._pid, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.ask_to_stop()
        self._process._popen.wait(20)  # type: ignore[union-attr]
        assert self._process.returncode is not None
        return self._process.returncode

    def log(self) -> str:
        """The end of what it wrote."""
        return self._process.log_tail(600)

    def metric(self, name: str, label: str = "") -> float | None:
        """A metric of /metrics, summed over its labels, or of one label's value; None if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        found = [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition(" ")[0].partition("{")[0] == f"tracewatch_stream_{name}" and label in line
        ]
        return sum(found)

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and body of /healthz."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def __enter__(self) -> Self:
        return self.start().ready()

    def __exit__(self, *_: object) -> None:
        self._process.stop(grace_s=10)


def wait_until(condition: Any, timeout_s: float, what: str) -> None:
    """Poll; fails with ``what`` after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


__all__ = ["QUICK", "StreamWorker", "signal", "wait_until"]
