"""``python -m dashboard`` as a process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from quickstart.ports import free_port
from tests.dashboard.conftest import Dashboard
from tests.services import ROOT, run_room


def test_sigterm_ends_it_with_exit_code_0(start_dashboard: Callable[..., Dashboard]) -> None:
    dashboard = start_dashboard("postgresql://nobody@127.0.0.1:1/none")
    dashboard.process.send_signal(signal.SIGTERM)
    assert dashboard.process.wait(20) == 0


def test_sigterm_during_the_start_ends_it_too() -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard"], cwd=ROOT, env={**os.environ, "TRACEWATCH_DASHBOARD_PORT": str(port)}
    )
    try:
        # It listens, and has not begun to serve: its pages are yet to be imported.
        deadline = time.monotonic() + 60
        while not listens(port):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_said_in_a_sentence(start_dashboard: Callable[..., Dashboard]) -> None:
    taken = start_dashboard("postgresql://nobody@127.0.0.1:1/none").url.rpartition(":")[2]
    outcome = run_room("dashboard", environment={"TRACEWATCH_DASHBOARD_PORT": taken})
    assert outcome.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in outcome.stderr


def test_a_wrong_setting_stops_the_start_and_names_the_variable() -> None:
    outcome = run_room("dashboard", environment={"TRACEWATCH_DASHBOARD_PORT": "many"})
    assert outcome.returncode == 2
    assert "TRACEWATCH_DASHBOARD_PORT" in outcome.stderr
