"""The demo: broker, PostgreSQL, every room and the demo shop, started in order, watched, and ended together."""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from quickstart import databases, faults, plan
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.errors import QuickstartError
from quickstart.feed import alerts
from quickstart.ports import chosen_ports
from quickstart.program import ROOT
from quickstart.state import DemoState
from quickstart.supervisor import Supervisor, together
from quickstart.terminal import Terminal

#: Where logs and state lie.
RUN_DIR: Final = ROOT / "run"
FIRST_FAULT_AFTER_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for. ``stop_after_s`` None runs until Ctrl-C."""

    broker: Literal["embedded", "kafka"] = "embedded"
    run_dir: Path = RUN_DIR
    ports: Mapping[str, int | None] = field(default_factory=dict)
    with_faults: bool = True
    fault_every_s: float = 60.0
    traces_per_s: float = 8.0
    stop_after_s: float | None = None


def run(options: DemoOptions) -> int:
    """Run the demo to its end; returns the exit code."""
    _forget_other_servers()
    with Terminal() as terminal:
        try:
            return asyncio.run(_Demo(options, terminal).run())
        except QuickstartError as error:
            terminal.failed(error)
            return 1


class _Demo:
    def __init__(self, options: DemoOptions, terminal: Terminal) -> None:
        self._options = options
        self._terminal = terminal
        self._supervisor = Supervisor(terminal)
        self._background: list[asyncio.Task[None]] = []
        self._is_stopping = False

    async def run(self) -> int:
        """Raises QuickstartError when something does not start, or is given up."""
        self._options.run_dir.mkdir(parents=True, exist_ok=True)
        DemoState.refuse_second(self._options.run_dir)
        main = asyncio.current_task()
        assert main is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, main)
        try:
            await self._start()
            async with asyncio.timeout(self._options.stop_after_s):
                await self._supervisor.watch()
        except (asyncio.CancelledError, TimeoutError):
            pass
        finally:
            await self._close()
        return 0

    async def _start(self) -> None:
        """Start everything, and leave the feed and the faults running in the background."""
        options, terminal = self._options, self._terminal
        begun_s = time.monotonic()
        terminal.headline("Tracewatch on this machine")
        ports = chosen_ports(options.ports)

        broker = await self._broker(ports["kafka"])
        postgres = EmbeddedPostgres(log_path=options.run_dir / "postgres.log", port=ports["postgres"])
        logins = databases.planned(postgres)
        kafka = {"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "TRACEWATCH_KAFKA_PARTITIONS": "4"}
        shop_urls = plan.shop_urls(ports)
        stream, *rooms = plan.rooms(kafka, logins, ports, options.run_dir)
        *shop, scheduler = plan.shop(kafka, shop_urls, logins.shop, options.run_dir, options.traces_per_s)

        await self._supervisor.start(broker, postgres)
        # The stream makes the topics, the migrations the tables: what the others ask for when they start.
        await together(self._supervisor.start(stream), self._migrate(postgres, logins))
        await self._supervisor.start(*rooms, *shop)
        # The last, so that no call fails but those that are told to.
        await self._supervisor.start(scheduler)

        live_api, dashboard = (f"http://127.0.0.1:{ports[name]}" for name in ("live_api", "dashboard"))
        DemoState(
            pid=os.getpid(),
            urls={"dashboard": dashboard, "live_api": live_api},
            shop_urls=shop_urls,
            environment={**kafka, "TRACEWATCH_DATABASE_URL": postgres.url},
        ).write(options.run_dir)
        terminal.running(
            [
                ("dashboard", dashboard, "service flow, traces, errors"),
                ("live alerts", f"ws://127.0.0.1:{ports['live_api']}/ws/alerts", "WebSocket"),
                ("APIs", f"{live_api}/docs", "traces, alerts, health; as Jaeger and Zipkin too"),
                (
                    "gateway",
                    f"http://127.0.0.1:{ports['gateway']}/v1/traces",
                    "OTLP/HTTP, from any language",
                ),
                ("Kafka", broker.bootstrap_servers, f"{broker.title}; topics tracewatch.*"),
                ("history", postgres.url, postgres.title),
                ("demo shop", f"{shop_urls['api-service']}/api/portfolios/ada", plan.shop_language()),
                ("logs", f"{_shown(options.run_dir)}/*.log", "a file a process"),
            ],
            time.monotonic() - begun_s,
        )
        self._background = [asyncio.create_task(self._show_alerts(f"ws://127.0.0.1:{ports['live_api']}"))]
        if options.with_faults:
            self._background.append(asyncio.create_task(self._inject_faults(shop_urls)))

    async def _broker(self, port: int) -> ApacheKafka | EmbeddedBroker:
        log_path = self._options.run_dir / "broker.log"
        if self._options.broker == "embedded":
            return EmbeddedBroker(log_path=log_path, port=port)
        with self._terminal.step("Apache Kafka's jars (fetched once)"):
            # Not on the loop, which has to hear Ctrl-C meanwhile.
            return await asyncio.to_thread(ApacheKafka, log_path=log_path, port=port)

    async def _migrate(self, postgres: EmbeddedPostgres, logins: databases.Databases) -> None:
        with self._terminal.step("migrations"):
            await asyncio.to_thread(databases.prepare, postgres, logins, self._options.run_dir / "migrations.log")

    async def _show_alerts(self, live_url: str) -> None:
        async for alert in alerts(live_url):
            self._terminal.alert(alert)

    async def _inject_faults(self, shop_urls: Mapping[str, str]) -> None:
        wait_s = FIRST_FAULT_AFTER_S
        for fault in itertools.cycle(faults.FAULTS):
            self._terminal.fault_announced(fault, wait_s)
            await asyncio.sleep(wait_s)
            # A service that is being brought back cannot fail on demand; the next fault comes anyway.
            with contextlib.suppress(QuickstartError):
                await asyncio.to_thread(faults.inject, fault, faults.FAULT_DURATION_S, shop_urls)
                self._terminal.fault_injected(fault, faults.FAULT_DURATION_S)
            wait_s = self._options.fault_every_s

    def _on_signal(self, main: "asyncio.Task[int]") -> None:
        if self._is_stopping:
            self._supervisor.kill()
        else:
            self._is_stopping = True
            main.cancel()

    async def _close(self) -> None:
        self._is_stopping = True
        begun_s = time.monotonic()
        self._terminal.stopping()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        DemoState.remove(self._options.run_dir)
        await self._supervisor.close()
        self._terminal.delay_summary()
        self._terminal.stopped(time.monotonic() - begun_s)


def _forget_other_servers() -> None:
    """Settings of the caller's shell would send the demo's processes to servers that are not the demo's."""
    for name in list(os.environ):
        if name.startswith(("TRACEWATCH_", "OTEL_", "PG")):
            del os.environ[name]


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
