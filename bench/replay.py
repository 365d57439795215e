"""How fast a recording is replayed into the history, and what that costs live alerts.

    python -m bench replay [--broker apache|embedded] [--minutes 60] [--alerts 100] [--spans-per-s 1000]

A stretch of the recording ob22 (../shared/data) goes through ``python -m replay`` at full speed: first alone, into an
empty history, which is to be at least 50 times faster than it happened; then again, beside live traffic, whose alerts
are to keep their delay: the 99th percentile within 1.5 times of what it is without a replay.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.end_to_end import _measured, _provider
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.process import free_port
from quickstart.program import PythonModule, http_answers
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch, unix_seconds

ROOT: Final = Path(__file__).resolve().parents[1]
RECORDING: Final = ROOT.parent / "shared" / "data" / "ob22.otlp.zst"
MIN_SPEED: Final = 50.0
MAX_DELAY_RATIO: Final = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the recording")
    parser.add_argument("--alerts", type=int, default=100)
    parser.add_argument("--spans-per-s", type=float, default=1000.0)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracewatch-bench-")))
        broker_kind = ApacheKafka if arguments.broker == "apache" else EmbeddedBroker
        broker = stack.enter_context(broker_kind(log_path=run_dir / "broker.log"))
        postgres = stack.enter_context(EmbeddedPostgres(log_path=run_dir / "postgres.log"))
        environment = {
            "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "TRACEWATCH_KAFKA_PARTITIONS": "4",
            "TRACEWATCH_DATABASE_URL": postgres.url,
        }
        subprocess.run(
            [sys.executable, "-m", "migrations", "up"], cwd=ROOT, env={**os.environ, **environment}, check=True
        )
        live_port = _started_rooms(stack, environment, run_dir)
        provider = _provider(broker.bootstrap_servers)
        stack.callback(provider.shutdown)

        speed = _replayed(environment, arguments.minutes)
        print(f"alone: {speed:,.0f} times as fast as it was (bound {MIN_SPEED:.0f})")
        quiet = asyncio.run(_measured(provider, live_port, arguments.alerts, arguments.spans_per_s))
        beside = threading.Thread(target=_replayed, args=(environment, arguments.minutes))
        beside.start()
        busy = asyncio.run(_measured(provider, live_port, arguments.alerts, arguments.spans_per_s))
        was_covered = beside.is_alive()
        beside.join()
    before, during = quiet.quantile_ns(0.99) / 1e6, busy.quantile_ns(0.99) / 1e6
    covered = "all along" if was_covered else "for a part of it: take fewer --alerts, or more --minutes"
    print(
        f"live alerts at {arguments.spans_per_s:,.0f} spans/s: p99 {before:.0f} ms, beside a replay {during:.0f} ms"
        f" ({during / before:.2f} times; bound {MAX_DELAY_RATIO}); it ran {covered}"
    )
    if speed < MIN_SPEED or during > before * MAX_DELAY_RATIO:
        raise SystemExit(1)


def _started_rooms(stack: ExitStack, environment: dict[str, str], run_dir: Path) -> int:
    """Start stream, sink and live_api; returns live_api's port."""
    ports = {room: free_port() for room in ("stream", "sink", "live_api")}
    for room, port in ports.items():
        path = "readyz" if room == "live_api" else "healthz"
        stack.enter_context(
            PythonModule(
                room,
                environment={**environment, f"TRACEWATCH_{room.upper()}_PORT": str(port)},
                is_ready=http_answers(f"http://127.0.0.1:{port}/{path}"),
                run_dir=run_dir,
            )
        )
    return ports["live_api"]


def _replayed(environment: dict[str, str], minutes: float) -> float:
    """Replay the first ``minutes`` of the recording; how many times faster than it happened."""
    until_ns = asyncio.run(_begun_ns()) + round(minutes * 60e9)
    done = subprocess.run(
        [sys.executable, "-m", "replay", "run", "--otlp", str(RECORDING), "--to", unix_seconds(until_ns)],
        cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    print(done.stdout, end="")
    found = re.search(r"([\d,]+) times as fast", done.stdout)
    assert found is not None, done.stdout
    return float(found[1].replace(",", ""))


async def _begun_ns() -> int:
    async for record in OtlpFile(RECORDING, Stretch()).records():
        return record.arrival_ns
    raise SystemExit(f"{RECORDING} is empty")


if __name__ == "__main__":
    main()
