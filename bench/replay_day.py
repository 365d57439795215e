"""A recorded day: ingested as live spans are, its tables dropped, replayed from the topic, compared."""

import asyncio
import random
import signal
import time
from pathlib import Path
from typing import Final

import psycopg
from aiokafka import AIOKafkaProducer

from bench.deployment import PARTITIONS, Deployment, Replayed
from replay.records import replay_records, spans_of
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch
from tests import services
from tests.replay.derived import Checksum, checksums
from tests.sink.harness import eventually
from tracecore.topics import Topics

#: Longer than the last traces and windows of live spans stay open.
STILL_S: Final = 25.0
INGESTED_S: Final = 1200.0
#: The longest that a replay is let live before it is killed.
KILL_WITHIN_S: Final = 40.0
#: The first migration that holds the history; how far the sink has read is in an older one.
FIRST_OF_CONTENT: Final = "004_traces"
MIGRATIONS: Final = Path(__file__).resolve().parents[1] / "migrations"
_LATEST_MS: Final = 2**63 - 1


class Day:
    """One recording in one deployment."""

    def __init__(self, deployed: Deployment, recording: Path, stretch: Stretch) -> None:
        self._deployed = deployed
        self._source = OtlpFile(recording, stretch)
        self._lived: dict[str, Checksum] = {}
        self._live_alerts: set[tuple[str, ...]] = set()

    def ingest(self) -> int:
        """Through the topic of spans, the live stream worker and the sink.

        Records carry the arrival that the recording tells. The broker's own stamp would take the day itself: so this
        topic is CreateTime. It is filled before the worker starts, for a worker at the end of its partition reckons
        with the wall clock, and these records come sixty times as fast as it goes.
        """
        deployed, spans = self._deployed, Topics().spans
        keep = {"retention.ms": "-1", "message.timestamp.before.max.ms": str(_LATEST_MS)}
        services.create_topic(
            deployed.bootstrap_servers, spans, PARTITIONS, {**keep, "message.timestamp.type": "CreateTime"}
        )
        begun_s = time.monotonic()
        sent = asyncio.run(self._sent())
        deployed.start("stream")
        deployed.start("sink")
        self._wait_until_still(sent)
        took_s = time.monotonic() - begun_s - STILL_S
        self._lived = checksums(deployed.database)
        self._live_alerts = self._alerts()
        print(f"ingested {sent:,} spans in {took_s:.0f} s; {len(self._live_alerts)} alerts", flush=True)
        return sent

    def drop_tables(self) -> None:
        """Every table of the history, and of replays, by the migrations themselves."""
        self._deployed.stop("sink")
        content = [path for path in MIGRATIONS.glob("[0-9]*.rollback.sql") if path.name >= FIRST_OF_CONTENT]
        self._deployed.run("migrations", "down", "--steps", str(len(content)))
        self._deployed.run("migrations", "up")
        self._deployed.start("sink")

    def replayed(self, kills: int, seed: int) -> Replayed:
        """The topic of spans at full speed; killed and resumed ``kills`` times before the run that is returned."""
        randomness = random.Random(seed)
        command = ["run", "--name", "day"]
        for _ in range(kills):
            lives_s = randomness.uniform(3, KILL_WITHIN_S)
            replay = self._deployed.started_replay(*command)
            time.sleep(lives_s)
            has_ended = replay.poll() is not None
            replay.send_signal(signal.SIGKILL)
            replay.wait()
            assert not has_ended, f"it had ended within {lives_s:.1f} s: take more --minutes, or fewer --kills"
            print(f"killed after {lives_s:.1f} s (seed {seed})", flush=True)
            command = ["resume", "day"]
        return self._deployed.replayed(*command)

    def is_the_same(self) -> bool:
        """Print both checksums of each table."""
        now = checksums(self._deployed.database)
        for table, (rows, checksum) in self._lived.items():
            verdict = "equal" if now[table] == (rows, checksum) else f"NOT EQUAL: {now[table][0]:,} rows"
            print(f"{table:22} {rows:>10,} rows  {checksum % 2**64:016x}  {now[table][1] % 2**64:016x}  {verdict}")
        alerts = self._alerts()
        both = len(alerts & self._live_alerts)
        print(f"alerts of the replay {len(alerts)}, of live {len(self._live_alerts)}, the same {both}", flush=True)
        return now == self._lived

    async def _sent(self) -> int:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._deployed.bootstrap_servers, linger_ms=5, max_batch_size=500_000
        )
        await producer.start()
        sent = 0
        try:
            async for record in self._source.records():
                spans, _ = spans_of(record)
                for part in replay_records(record, spans, PARTITIONS):
                    await producer.send(
                        Topics().spans, part.value, partition=part.partition, timestamp_ms=part.arrival_ns // 1_000_000
                    )
                    sent += part.spans
            await producer.flush()
        finally:
            await producer.stop()
        return sent

    def _wait_until_still(self, spans: int) -> None:
        changed_at = time.monotonic()
        last: object = None

        def is_still() -> bool:
            nonlocal changed_at, last
            with psycopg.connect(self._deployed.database) as connection:
                now = connection.execute(
                    "SELECT (SELECT count(*) FROM traces), (SELECT sum(span_count) FROM traces),"
                    " (SELECT sum(spans) FROM operation_windows), (SELECT count(*) FROM hop_windows)"
                ).fetchone()
            if now != last:
                changed_at, last = time.monotonic(), now
            time.sleep(1)
            return now is not None and (now[1] or 0) >= spans * 0.99 and time.monotonic() - changed_at > STILL_S

        eventually(is_still, timeout_s=INGESTED_S)

    def _alerts(self) -> set[tuple[str, ...]]:
        with psycopg.connect(self._deployed.database) as connection:
            return {
                tuple(map(str, row))
                for row in connection.execute("SELECT (labels - 'replay_id')::text, starts_at_ns FROM alerts")
            }
