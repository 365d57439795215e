"""One child process: started in a group of its own, logged to a file, awaited until ready, and never left behind.

Three things end it: `stop`, the end of this interpreter (atexit), and, on Linux, the death of this process by any
signal (the kernel's parent-death signal, set by util-linux's ``setpriv`` where it is installed).
"""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from quickstart.errors import ProcessFailed

POLL_INTERVAL_S: Final = 0.05
LOG_TAIL_LINES: Final = 20


class ManagedProcess:
    """A child process that can be started, awaited, stopped, killed, and started again."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """``env`` is added to this process's own; ``user`` and ``group`` are numeric ids to run as (root only)."""
        self.name = name
        self.argv = list(argv)
        self.log_path = log_path
        self._env = dict(env or {})
        self._cwd = cwd
        self._user = user
        self._group = group
        self._stop_signal = stop_signal
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        return self._popen.pid if self._popen is not None and self._popen.poll() is None else None

    @property
    def returncode(self) -> int | None:
        """How it ended: None while it runs or was never started; negative is a signal's number."""
        return None if self._popen is None else self._popen.poll()

    @property
    def is_running(self) -> bool:
        return self.pid is not None

    def start(self) -> Self:
        """Start it; returns at once. The log is appended to, so a restart keeps what was said before."""
        if self.is_running:
            return self
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._popen = subprocess.Popen(
                    [*_with_parent_death_signal(self._stop_signal), *self.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self._env},
                    cwd=self._cwd,
                    user=self._user,
                    group=self._group,
                    extra_groups=[] if self._group is not None else None,
                    # A group of its own: Ctrl-C at the terminal reaches only us, and we end the whole group.
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessFailed(self.name, f"could not be started: {error}", self.log_path, "") from error
        atexit.register(self.kill)
        return self

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Block until ``is_ready()``; raises ProcessFailed when the process ends first or time runs out."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.raise_if_ended()
            self.raise_if_late(deadline)
            time.sleep(POLL_INTERVAL_S)

    def raise_if_ended(self) -> None:
        """Raises ProcessFailed, with the end of the log, when the process is no more."""
        if self.returncode is not None:
            raise ProcessFailed(self.name, _ending(self.returncode), self.log_path, self.log_tail())

    def raise_if_late(self, deadline_s: float) -> None:
        """Raises ProcessFailed, with the end of the log, after ``deadline_s`` of the monotonic clock."""
        if time.monotonic() > deadline_s:
            raise ProcessFailed(self.name, "was not ready in time", self.log_path, self.log_tail())

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines it wrote since it was last started."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def ask_to_stop(self) -> None:
        """Send the stop signal and return at once."""
        if self._popen is not None and self._popen.poll() is None:
            self._signal_group(self._stop_signal)

    def stop(self, *, grace_s: float = 10.0) -> None:
        """Ask it to end, wait up to ``grace_s``, then kill whatever is left of its group."""
        self.ask_to_stop()
        if self._popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """End the whole group at once (SIGKILL), as a crash would, and reap it."""
        if self._popen is None:
            return
        # Also after the leader has ended: its children may outlive it.
        self._signal_group(signal.SIGKILL)
        self._popen.wait()
        atexit.unregister(self.kill)

    def _signal_group(self, number: signal.Signals) -> None:
        assert self._popen is not None
        # Gone already? macOS says PermissionError for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_port_free(port: int) -> bool:
    """Whether a server could bind 127.0.0.1:port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _with_parent_death_signal(number: signal.Signals) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--"] if setpriv else []


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"
