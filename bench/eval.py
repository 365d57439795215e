"""Alerts against labelled faults: a recording through Kafka and the real Faust app, in event time, at full speed.

Prints the line of ``shared/scoring/detection.py`` for the kinds of latency; the alerts that no label explains, each
with its reason, for a person to judge; how many bursts of failing requests were named in time; how many latency alerts
there were, and fired at once. Bounds on ob22: 16 of 18 recalled, strict precision 0.8, 0.8 false an hour, median delay
60 s; on tt29: every burst, no storm of latency alerts. Recordings and labels: ``../shared/data`` beside this checkout,
or ``--data``.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from bench.error_bursts import Burst, Requests, delay_s
from quickstart.apache_kafka import ApacheKafka
from replay.backtest import Episode, backtest
from replay.records import spans_of
from replay.settings import ReplaySettings
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch
from tracecore.settings import KafkaSettings, read

SHARED = Path(__file__).resolve().parents[2] / "shared"
LATENCY_KINDS = "latency_shift,slow_span"
PARTITIONS = 4
#: A built-in rule's alert goes on for so long after its last evidence.
RESOLVE_S = 60.0

#: An alert as the scoring script reads it, and what it says.
Row = dict[str, Any]


def main() -> None:
    """Stream one recording, or each that is named, and score what was raised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", default=["ob22"], help="names of recordings (default: ob22)")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of recordings and labels")
    parser.add_argument("--scoring", type=Path, default=SHARED / "scoring" / "detection.py", help="the scoring script")
    parser.add_argument("--rules", type=Path, help="rules to try instead of the built-in ones")
    parser.add_argument(
        "--out", type=Path, help="folder for the alerts, a JSON object a line (default: a temporary one)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    out = arguments.out or Path(tempfile.mkdtemp(prefix="tracewatch-eval-"))
    out.mkdir(parents=True, exist_ok=True)
    with ApacheKafka(log_path=out / "kafka.log") as broker:
        # The worker is a process of its own, and takes these from the environment.
        os.environ["TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
        os.environ["TRACEWATCH_KAFKA_PARTITIONS"] = str(PARTITIONS)
        kafka = read(KafkaSettings)
        asyncio.run(_groups_can_be_coordinated(kafka))
        for name in arguments.recordings:
            started = time.monotonic()
            source = OtlpFile(arguments.data / f"{name}.otlp.zst", Stretch(None, None))
            episodes = asyncio.run(
                backtest(kafka, ReplaySettings(), source, arguments.rules, uuid4().hex[:8], _Quiet())
            )
            alerts = out / f"{name}.alerts.jsonl"
            rows = [scored(episode) for episode in episodes]
            alerts.write_text("".join(json.dumps(row) + "\n" for row in rows))
            print(f"{name}: {len(episodes)} alerts in {time.monotonic() - started:.0f} s: {alerts}")
            labels = arguments.data / f"{name}.labels.json"
            command = [sys.executable, str(arguments.scoring), str(labels), str(alerts), "--kinds", LATENCY_KINDS]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
            latency = [row for row in rows if row["kind"] in LATENCY_KINDS.split(",")]
            _print_unexplained(latency, json.loads(labels.read_text())["faults"])
            bursts = asyncio.run(_bursts(source))
            named = [burst for burst in bursts if delay_s(burst, rows) is not None]
            print(f"bursts of failing requests: {len(named)} of {len(bursts)} named where they began, within 15 s")
            for burst in bursts:
                if burst not in named:
                    print(
                        f"  {_clock(burst.is_burst_s)} {burst.service} fails, for {burst.began_in}: not named in time"
                    )
            print(f"latency alerts: {len(latency)}, at most {_most_at_once(latency)} at once")


def _print_unexplained(latency: Sequence[Row], faults: Sequence[Mapping[str, Any]]) -> None:
    """Alerts that overlap no labelled fault, a minute after it included."""
    for row in latency:
        ends_s = row["ends_at"] or row["starts_at"]
        if not any(row["starts_at"] < f["end_unix"] + 60 and ends_s > f["start_unix"] for f in faults):
            print(f"  no label explains {_clock(row['starts_at'])}-{_clock(ends_s)}: {row['description']}")


async def _bursts(source: OtlpFile) -> list[Burst]:
    requests = Requests()
    async for record in source.records():
        requests.add(spans_of(record)[0])
    if requests.has_failures:
        async for record in source.records():
            requests.add_links(spans_of(record)[0])
    return requests.bursts()


def _most_at_once(rows: Sequence[Row]) -> int:
    """How many of the alerts fired at the same time, at most."""
    return max(
        (
            sum(one["fired_at"] <= at["fired_at"] <= (one["ends_at"] or at["fired_at"]) + RESOLVE_S for one in rows)
            for at in rows
        ),
        default=0,
    )


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%H:%M:%S")


async def _groups_can_be_coordinated(kafka: KafkaSettings) -> None:
    """Wait until the new broker has made its topic of offsets."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        for _ in range(60):
            with contextlib.suppress(KafkaError):
                await admin.find_coordinator("tracewatch-eval")
                return
            await asyncio.sleep(0.5)
    finally:
        await admin.close()


class _Quiet:
    """Progress that nobody looks at."""

    def came_to(self, arrival_ns: int, records: int, spans: int) -> None:
        """Nothing is shown."""

    def share(self, done: float) -> None:
        """Nothing is shown."""

    def phase(self, text: str) -> None:
        """Nothing is shown."""


def scored(episode: Episode) -> Row:
    """An alert as the scoring script reads it; Unix seconds of event time."""
    alert = episode.alert
    return {
        "service": alert.service,
        "kind": alert.labels["kind"],
        "operation": alert.labels["operation"],
        "starts_at": alert.starts_at_ns / 1e9,
        "fired_at": alert.updated_at_ns / 1e9,
        "ends_at": None if episode.ends_at_ns is None else episode.ends_at_ns / 1e9,
        "summary": alert.annotations["summary"],
        "description": alert.annotations["description"],
    }


if __name__ == "__main__":
    main()
