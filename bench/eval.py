"""Alerts against labelled faults: a recording through Kafka and the real Faust app, in event time, at full speed.

Prints the line of ``shared/scoring/detection.py`` for the kinds of latency. Bounds on ob22: 16 of 18 recalled, strict
precision 0.8, median delay 60 s. Recordings and labels: ``../shared/data`` beside this checkout, or ``--data``.
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
from pathlib import Path
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from quickstart.apache_kafka import ApacheKafka
from replay.backtest import Episode, backtest
from replay.settings import ReplaySettings
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch
from tracecore.settings import KafkaSettings, read

SHARED = Path(__file__).resolve().parents[2] / "shared"
LATENCY_KINDS = "latency_shift,slow_span"
PARTITIONS = 4


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
            alerts.write_text("".join(json.dumps(scored(episode)) + "\n" for episode in episodes))
            print(f"{name}: {len(episodes)} alerts in {time.monotonic() - started:.0f} s: {alerts}")
            labels = arguments.data / f"{name}.labels.json"
            command = [sys.executable, str(arguments.scoring), str(labels), str(alerts), "--kinds", LATENCY_KINDS]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


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


def scored(episode: Episode) -> dict[str, object]:
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
    }


if __name__ == "__main__":
    main()
