"""``python -m dashboard`` as a process."""

import signal
from collections.abc import Callable

from tests.dashboard.conftest import Dashboard
from tests.services import run_room


def test_sigterm_ends_it_with_exit_code_0(start_dashboard: Callable[..., Dashboard]) -> None:
    dashboard = start_dashboard("postgresql://nobody@127.0.0.1:1/none")
    dashboard.process.send_signal(signal.SIGTERM)
    assert dashboard.process.wait(20) == 0


def test_a_port_that_is_taken_is_said_in_a_sentence(start_dashboard: Callable[..., Dashboard]) -> None:
    taken = start_dashboard("postgresql://nobody@127.0.0.1:1/none").url.rpartition(":")[2]
    outcome = run_room("dashboard", environment={"TRACEWATCH_DASHBOARD_PORT": taken})
    assert outcome.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in outcome.stderr


def test_a_wrong_setting_stops_the_start_and_names_the_variable() -> None:
    outcome = run_room("dashboard", environment={"TRACEWATCH_DASHBOARD_PORT": "many"})
    assert outcome.returncode == 2
    assert "TRACEWATCH_DASHBOARD_PORT" in outcome.stderr
