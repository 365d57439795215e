"""The deployment under test: Apache Kafka with a log that outlives it, PostgreSQL, and every room as processes.

Whoever dies is started again, as a supervisor would; who is held by a fault is left alone until the fault is over.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quickstart import databases, plan
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.process import free_port
from quickstart.program import PythonModule
from quickstart.service import Service

PARTITIONS: Final = 6
_POLL_S: Final = 0.25
#: How long a service may take to come back: a room waits for a broker that is killed meanwhile.
BACK_WITHIN_S: Final = 240.0


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended though nobody ended it."""

    at_s: float
    name: str
    returncode: int
    last_words: str


class Deployment:
    """Servers and rooms by name: broker, postgres, stream-1.., sink-1.., live_api, gateway."""

    def __init__(
        self, run_dir: Path, *, streams: int, sinks: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self.broker = ApacheKafka(log_path=run_dir / "broker.log", configuration=_BROKER)
        self.postgres = EmbeddedPostgres(log_path=run_dir / "postgres.log")
        self._run_dir = run_dir
        self._logins = databases.planned(self.postgres)
        self._environment = {
            "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "TRACEWATCH_KAFKA_PARTITIONS": str(PARTITIONS),
            **(environment or {}),
        }
        self.ports: dict[str, int] = {}
        self._metrics_ports: list[int] = []
        self.rooms = dict(self._planned(streams, sinks))
        self.services: dict[str, Service] = {"broker": self.broker, "postgres": self.postgres, **self.rooms}
        #: Those that a fault has in its hands.
        self.held: set[str] = set()
        self.deaths: list[Death] = []

    async def start(self) -> None:
        """Start everything; returns when all are ready."""
        await asyncio.gather(*(self._started(service) for service in (self.broker, self.postgres)))
        await asyncio.to_thread(databases.prepare, self.postgres, self._logins, self._run_dir / "migrations.log")
        streams = [service for name, service in self.rooms.items() if name.startswith("stream")]
        await self._started(streams[0])  # it makes the topics
        await asyncio.gather(*(self._started(service) for service in self.rooms.values() if service is not streams[0]))

    async def keep(self, began_s: float) -> None:
        """Until cancelled: start again who died, and note it. ``began_s`` of the monotonic clock is second 0."""
        while True:
            for name, service in self.services.items():
                returncode = service.process.returncode
                if name not in self.held and returncode is not None:
                    last_words = service.process.log_tail(15)
                    self.deaths.append(Death(time.monotonic() - began_s, name, returncode, last_words))
                    service.process.start()
            await asyncio.sleep(_POLL_S)

    async def started_again(self, name: str) -> None:
        """Start a service that was ended, and wait until it serves."""
        await self._started(self.services[name], BACK_WITHIN_S)

    async def close(self) -> None:
        """End everything, and delete what the servers held."""
        for service in self.rooms.values():
            service.process.ask_to_stop()
        await asyncio.gather(*(asyncio.to_thread(service.close) for service in self.rooms.values()))
        await asyncio.gather(*(asyncio.to_thread(service.close) for service in (self.broker, self.postgres)))

    def kill(self) -> None:
        """End everything at once."""
        for service in self.services.values():
            service.process.kill()

    def pids(self) -> dict[str, int]:
        """The process ids of those that run."""
        pids = {name: service.process.pid for name, service in self.services.items()}
        return {name: pid for name, pid in pids.items() if pid is not None}

    def metrics_ports(self) -> list[int]:
        """Where the rooms tell their lag."""
        return self._metrics_ports

    @property
    def live_url(self) -> str:
        """Where the live feed is."""
        return f"ws://127.0.0.1:{self.ports['live_api']}"

    @property
    def gateway_url(self) -> str:
        """Where spans are posted to."""
        return f"http://127.0.0.1:{self.ports['gateway']}/v1/traces"

    @staticmethod
    async def _started(service: Service, within_s: float = 0.0) -> None:
        # Started here and not in a thread: the kernel ends a child when the thread that started it ends.
        await asyncio.to_thread(service.prepare)
        service.process.start()
        deadline = time.monotonic() + max(within_s, service.ready_timeout_s)
        while not await asyncio.to_thread(service.is_ready):
            service.process.raise_if_ended()
            service.process.raise_if_late(deadline)
            await asyncio.sleep(_POLL_S)

    def _planned(self, streams: int, sinks: int) -> Iterator[tuple[str, PythonModule]]:
        for number in range(1, max(streams, sinks) + 1):
            ports = {room: free_port() for room in ("stream", "sink", "live_api", "dashboard", "gateway")}
            run_dir = self._run_dir / str(number)
            stream, sink, live_api, _, gateway = plan.rooms(self._environment, self._logins, ports, run_dir)
            if number <= streams:
                self._metrics_ports.append(ports["stream"])
                yield f"stream-{number}", stream
            if number <= sinks:
                self._metrics_ports.append(ports["sink"])
                yield f"sink-{number}", sink
            if number == 1:
                self.ports = ports
                self._metrics_ports.append(ports["live_api"])
                yield "live_api", live_api
                yield "gateway", gateway


_BROKER: Final = """\
# An hour at two thousand spans a second must not pass a default of Kafka's unseen.
log.segment.bytes=67108864
"""
