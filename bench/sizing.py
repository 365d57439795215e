"""What a span costs each room: CPU, memory, bytes on disk. The table of docs/operating.md, "How large".

    python -m bench sizing [--minutes 30] [--recording FILE]

The first minutes of a recording (ob22 of ../shared/data), uncompressed, through Apache Kafka, one stream worker, one
sink and live_api as fast as they go. Spans a second are what one core carries if nothing else keeps it busy. No bound:
plan with it.
"""

import argparse
import asyncio
import re
from pathlib import Path

import psycopg

from bench.deployment import PARTITIONS, deployment
from bench.replay import RECORDING, stretch_of
from bench.replay_day import Day
from replay.stretch import Stretch
from tests import services
from tests.chaos.sampling import sampled
from tracecore.topics import Topics

ROOMS = ("stream", "sink", "live_api", "kafka", "postgres")
_PARTITION = re.compile(r"(.+)-\d+")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of the recording (30)")
    parser.add_argument("--recording", type=Path, default=RECORDING, help="length-delimited OTLP (ob22)")
    arguments = parser.parse_args()
    _, until_ns = asyncio.run(stretch_of(arguments.minutes, arguments.recording))
    with deployment("apache", {}) as deployed:
        for spec in Topics().specs():
            if spec.name != Topics().spans:  # the day makes it, for its old records
                partitions = PARTITIONS if spec.partitioned else 1
                services.create_topic(deployed.bootstrap_servers, spec.name, partitions, dict(spec.config))
        deployed.start("live_api")
        day = Day(deployed, arguments.recording, Stretch(None, until_ns))
        before = deployed.cpu_s()
        spans = day.ingest()
        cpu_s = deployed.cpu_s()
        print(f"{'room':24}{'us a span':>12}{'spans/s a core':>16}{'memory MB':>12}")
        for room in ROOMS:
            cost_us = (cpu_s[room] - before.get(room, 0.0)) / spans * 1e6
            held = sampled(deployed.processes[room], 0.0)
            assert held is not None, f"{room} has ended"
            print(f"{room:24}{cost_us:12.1f}{1e6 / cost_us:16,.0f}{held.memory_mb:12.0f}")
        assert deployed.topics_dir is not None
        print(f"\n{'Kafka, topic':24}{'bytes a span':>12}")
        for topic, size in sorted(topic_bytes(deployed.topics_dir).items(), key=lambda each: -each[1]):
            print(f"{topic:24}{size / spans:12.1f}")
        print(f"\n{'PostgreSQL, table':24}{'bytes a span':>12}{'of it indexes':>16}")
        for table, total, indexes in table_bytes(deployed.database):
            print(f"{table:24}{total / spans:12.1f}{indexes / spans:16.1f}")


def topic_bytes(topics_dir: Path) -> dict[str, int]:
    """Bytes of the segments of each topic of ours."""
    sizes: dict[str, int] = {}
    for folder in topics_dir.iterdir():
        named = _PARTITION.fullmatch(folder.name)
        if named and not named[1].startswith("_"):
            written = sum(path.stat().st_size for path in folder.glob("*.log"))
            sizes[named[1]] = sizes.get(named[1], 0) + written
    return {topic: size for topic, size in sizes.items() if size}


def table_bytes(database: str) -> list[tuple[str, int, int]]:
    """Tables with their partitions, largest first: name, bytes with indexes and TOAST, bytes of indexes."""
    with psycopg.connect(database) as connection:
        return connection.execute(
            """
            SELECT coalesce(pg_partition_root(oid)::regclass::text, relname), sum(pg_total_relation_size(oid))::bigint,
                   sum(pg_indexes_size(oid))::bigint
            FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            GROUP BY 1 HAVING sum(pg_relation_size(oid)) > 0 ORDER BY 2 DESC LIMIT 12
            """
        ).fetchall()


if __name__ == "__main__":
    main()
