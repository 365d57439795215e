"""The demo as a person starts and ends it: it gets ready, an injected fault reaches its terminal, and nothing stays."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from quickstart.ports import USUAL_PORTS
from quickstart.process import free_port, is_port_free
from tests.services import ROOT

READY_WITHIN_S = 60


class Demo:
    """A demo in a process of its own, on free ports, with what it says in a file."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.said_path = run_dir / "said.txt"
        run_dir.mkdir(exist_ok=True)
        self.ports = {name: free_port() for name in USUAL_PORTS}
        options = [f"--{name.replace('_', '-')}-port={port}" for name, port in self.ports.items()]
        with self.said_path.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "quickstart", "demo", "--no-faults", f"--run-dir={run_dir}", *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.said_path.read_text()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.run_dir / "demo.json").read_text())
        return state

    def until(self, is_so: Callable[[], object], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not is_so():
            assert self.process.poll() is None, f"the demo ended:\n{self.said}"
            assert time.monotonic() < deadline, f"after {within_s} s it had said:\n{self.said}"
            time.sleep(0.1)

    def descendants(self) -> set[int]:
        """Every process that it started, and that those started."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(stat.parent.name)] = int(fields[1])
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found - {self.process.pid}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "run")
    yield demo
    if demo.process.poll() is None:
        demo.process.send_signal(signal.SIGTERM)
        demo.process.wait(30)


def fault(demo: Demo, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quickstart", "fault", *arguments, f"--run-dir={demo.run_dir}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_fault_reaches_the_terminal_a_dead_room_comes_back_and_ctrl_c_ends_everything(demo: Demo) -> None:
    demo.until(lambda: "Ctrl-C ends it all" in demo.said, READY_WITHIN_S)
    assert not any(is_port_free(port) for port in demo.ports.values())
    assert "\x1b" not in demo.said, "colours belong on terminals only"

    told = fault(demo, "errors", "--service", "yahoo_finance_proxy", "--for", "30s")
    assert told.stdout == "for 30 s, half of the requests to yahoo_finance_proxy fail\n"
    demo.until(lambda: re.search(r"firing +\w+ +yahoo_finance_proxy .*after \d+ ms", demo.said), 30)

    with psycopg.connect(demo.state()["environment"]["TRACEWATCH_DATABASE_URL"], autocommit=True) as connection:
        count = "SELECT count(DISTINCT service) FROM service_traces"
        demo.until(lambda: connection.execute(count).fetchone() == (3,), 30)

    sink = next(pid for pid in demo.descendants() if b"\0sink\0" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(sink, signal.SIGKILL)
    demo.until(lambda: "sink was ended by SIGKILL; starting it again" in demo.said, 10)
    demo.until(lambda: demo.said.count("✓ sink ") == 2, 30)

    started = demo.descendants()
    assert len(started) >= 10
    begun_s = time.monotonic()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0, demo.said
    assert time.monotonic() - begun_s < 15
    assert "every port is free" in demo.said
    assert "span end to WebSocket: median" in demo.said
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert all(is_port_free(port) for port in demo.ports.values())
    assert not (demo.run_dir / "demo.json").exists()


def test_ctrl_c_while_it_starts_ends_it_too(demo: Demo) -> None:
    demo.until(lambda: "✓ embedded broker" in demo.said, READY_WITHIN_S)
    started = demo.descendants()
    assert started
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0, demo.said
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert all(is_port_free(port) for port in demo.ports.values())


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = subprocess.run(
            [sys.executable, "-m", "quickstart", "demo", f"--dashboard-port={port}", f"--run-dir={tmp_path}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert outcome.returncode == 1
    assert f"port {port} is in use; give --dashboard-port another" in outcome.stdout


def test_a_fault_without_a_demo_says_how_to_start_one(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "quickstart", "fault", "slow", f"--run-dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert outcome.returncode == 1
    assert "start one with: make demo" in outcome.stderr


def test_a_second_demo_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    state = {"pid": os.getpid(), "urls": {}, "shop_urls": {}, "environment": {}}
    (tmp_path / "demo.json").write_text(json.dumps(state))
    outcome = subprocess.run(
        [sys.executable, "-m", "quickstart", "demo", f"--run-dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert outcome.returncode == 1
    assert f"a demo is running already (process {os.getpid()})" in outcome.stdout
