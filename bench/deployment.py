"""A deployment for benches: servers, rooms, replays as people run them, and CPU time by process."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.process import free_port
from quickstart.program import PythonModule, http_answers
from tests import services
from tests.services import ROOT

PARTITIONS: Final = 4


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay printed, and what it cost: CPU seconds by process, from the start of the command to its end."""

    said: str
    took_s: float
    cpu_s: Mapping[str, float]

    @property
    def spans(self) -> int:
        found = re.search(r"([\d,]+) spans", self.said)
        assert found is not None, self.said
        return int(found[1].replace(",", ""))

    def lines(self) -> list[str]:
        """For a terminal: its own words, and CPU by process."""
        cost = ", ".join(f"{name} {cpu_s / self.spans * 1e6:.1f}" for name, cpu_s in self.cpu_s.items())
        busy = sum(self.cpu_s.values()) / self.took_s / (os.cpu_count() or 1)
        return [*self.said.splitlines(), f"  CPU, us a span: {cost}; all cores were {busy:.0%} busy with it"]


@dataclass(slots=True)
class Deployment:
    """Kafka and PostgreSQL with the schema, and the rooms that were started."""

    environment: dict[str, str]
    bootstrap_servers: str
    database: str
    run_dir: Path
    processes: dict[str, int]
    stack: ExitStack
    #: Where Kafka's topics lie, a folder a partition; None of a broker in memory.
    topics_dir: Path | None
    _rooms: dict[str, PythonModule] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)

    def start(self, room: str) -> int:
        """Start a room, or start it again; the port of its pages."""
        if room not in self._rooms:
            self._ports[room] = free_port()
            path = "readyz" if room == "live_api" else "healthz"
            self._rooms[room] = PythonModule(
                room,
                environment={**self.environment, f"TRACEWATCH_{room.upper()}_PORT": str(self._ports[room])},
                is_ready=http_answers(f"http://127.0.0.1:{self._ports[room]}/{path}"),
                run_dir=self.run_dir,
            )
            self.stack.callback(self._rooms[room].close)
        process = self._rooms[room].start().process
        assert process.pid is not None
        self.processes[room] = process.pid
        return self._ports[room]

    def stop(self, room: str) -> None:
        """As an operator would."""
        self._rooms[room].stop()
        del self.processes[room]

    def cpu_s(self) -> dict[str, float]:
        """User and system time so far, by process."""
        return {name: _cpu_s(pid) for name, pid in self.processes.items()}

    def run(self, module: str, *arguments: str) -> None:
        """``python -m MODULE ARGUMENTS``, which must succeed."""
        done = services.run_room(module, *arguments, environment=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def started_replay(self, *arguments: str) -> subprocess.Popen[str]:
        """``python -m replay ARGUMENTS``, under way."""
        return subprocess.Popen(
            [sys.executable, "-m", "replay", *arguments],
            cwd=ROOT, env={**os.environ, **self.environment}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def replayed(self, *arguments: str) -> Replayed:
        """``python -m replay ARGUMENTS``, to its end."""
        before = self.cpu_s()
        begun_s = time.monotonic()
        replay = self.started_replay(*arguments)
        own: dict[str, float] = {}
        while replay.poll() is None:
            for name, cpu_s in _cpu_of_replay(replay.pid).items():
                own[name] = max(own.get(name, 0.0), cpu_s)  # its worker ends before it does
            time.sleep(0.5)
        took_s = time.monotonic() - begun_s
        assert replay.stdout is not None
        said = replay.stdout.read()
        assert replay.returncode == 0, said
        cpu_s = {name: now_s - before[name] for name, now_s in self.cpu_s().items()}
        return Replayed(said[said.index("replay ") :], took_s, {**own, **cpu_s})


@contextmanager
def deployment(broker: str, settings: Mapping[str, str]) -> Iterator[Deployment]:
    """Servers that end with the block; ``broker`` is ``apache`` or ``embedded``. No room is started yet."""
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracewatch-bench-")))
        broker_kind = ApacheKafka if broker == "apache" else EmbeddedBroker
        kafka = stack.enter_context(broker_kind(log_path=run_dir / "broker.log"))
        postgres = stack.enter_context(EmbeddedPostgres(log_path=run_dir / "postgres.log"))
        services.migrate(postgres.url)
        assert kafka.process.pid is not None
        assert postgres.process.pid is not None
        yield Deployment(
            {
                "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "TRACEWATCH_KAFKA_PARTITIONS": str(PARTITIONS),
                "TRACEWATCH_DATABASE_URL": postgres.url,
                # The recordings are older than any retention.
                "TRACEWATCH_SINK_RETENTION_INTERVAL_S": "0",
                **settings,
            },
            kafka.bootstrap_servers,
            postgres.url,
            run_dir,
            {"kafka": kafka.process.pid, "postgres": postgres.process.pid},
            stack,
            kafka.log_dir if isinstance(kafka, ApacheKafka) else None,
        )


def _cpu_of_replay(pid: int) -> dict[str, float]:
    try:
        children = psutil.Process(pid).children()
        own = psutil.Process(pid).cpu_times()
        return {"publisher": own.user + own.system, "worker": sum(_cpu_s(child.pid) for child in children)}
    except psutil.NoSuchProcess:
        return {}


def _cpu_s(pid: int) -> float:
    """User and system time of a process and of all that it started, those included that have ended."""
    total = 0.0
    for process in _family(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _family(pid: int) -> Sequence[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
