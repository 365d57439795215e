"""python -m sink: keeps the history. Also: retention, dead-letters."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from datetime import UTC, date, datetime

from aiokafka.errors import KafkaError

from sink import dead_letters
from sink.consumer import Sink
from sink.errors import KafkaAway, StoreAway
from sink.retention import Housekeeping, RetentionRule, keep_house
from sink.settings import SinkSettings
from sink.store import Store
from sink.telemetry import Metrics, TelemetryServer, steady_s
from tracecore.errors import InvalidSetting
from tracecore.logs import start_logging
from tracecore.redaction import Redaction
from tracecore.settings import DatabaseSettings, KafkaSettings, LogSettings, RedactionSettings, read

logger = logging.getLogger("sink")

#: How long a thread may keep the interpreter while another waits for it.
SWITCH_S = 0.0005


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or a command that was done, 1 if something is wrong that a person must change."""
    chosen = _parser().parse_args(arguments)
    try:
        start_logging(read(LogSettings), "sink")
        logging.getLogger("aiokafka").setLevel(logging.ERROR)
        if chosen.command == "dead-letters":
            return dead_letters.main(chosen, read(KafkaSettings))
        settings, database = read(SinkSettings), read(DatabaseSettings)
        if chosen.command == "retention":
            return _keep_house_once(settings, database, chosen.dry_run)
        asyncio.run(_run(settings, read(KafkaSettings), database, read(RedactionSettings).redaction))
    except InvalidSetting as error:
        logger.error("%s", error)
        return 1
    except (KafkaAway, KafkaError) as error:
        logger.error("Kafka cannot be reached; is TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS right? %s", error)
        return 1
    except StoreAway as error:
        logger.error("PostgreSQL cannot do it; is TRACEWATCH_DATABASE_URL right? %s", error)
        return 1
    except OSError as error:
        logger.error("cannot serve /healthz; is TRACEWATCH_SINK_PORT taken? %s", error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sink", description="Keeps the history in PostgreSQL.")
    commands = parser.add_subparsers(dest="command")
    retention = commands.add_parser("retention", help="make partitions ahead and drop what is too old, once")
    retention.add_argument("--dry-run", action="store_true", help="say what would be dropped")
    dead_letters.add_arguments(commands.add_parser("dead-letters", help="what could not be read or stored"))
    return parser


async def _run(settings: SinkSettings, kafka: KafkaSettings, database: DatabaseSettings, redaction: Redaction) -> None:
    # Batches are large and live shortly, without cycles: collecting young garbage often costs a fifth of the time.
    gc.set_threshold(200_000, 50, 1000)
    # Rows are made on one thread and sent to PostgreSQL by another, in many short steps. Each step would wait for the
    # interpreter up to the 5 ms of the default, and PostgreSQL with it.
    sys.setswitchinterval(SWITCH_S)
    metrics = Metrics()
    url = database.url.get_secret_value()
    store = Store(url, kafka.topics.otlp_spans, redaction)
    sink = Sink(kafka, settings, store, metrics, redaction)
    server = TelemetryServer(
        settings.host, settings.port, metrics.registry, lambda: sink.progress.problem(steady_s(), settings.stalled_s)
    )
    logger.info("/healthz and /metrics on http://%s:%d", settings.host, server.port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sink.stop)
    housekeeping = asyncio.create_task(_keep_house(url, settings, metrics))
    try:
        await sink.run()
    finally:
        housekeeping.cancel()
        server.close()
        store.close()
    logger.info("stopped")


async def _keep_house(url: str, settings: SinkSettings, metrics: Metrics) -> None:
    while settings.retention_interval_s:
        try:
            done = await asyncio.to_thread(keep_house, url, _rule(settings), _today())
        except StoreAway as error:
            logger.warning("retention waits for PostgreSQL: %s", error)
            await asyncio.sleep(min(settings.retention_interval_s, 30))
            continue
        if done is not None:
            metrics.partitions_dropped.inc(len(done.dropped))
            if done.made or done.dropped or done.deleted:
                logger.info(
                    "made %d partitions ahead, dropped %d, deleted %d old rows",
                    done.made,
                    len(done.dropped),
                    sum(count for _, count in done.deleted),
                )
        await asyncio.sleep(settings.retention_interval_s)


def _keep_house_once(settings: SinkSettings, database: DatabaseSettings, dry_run: bool) -> int:
    done = keep_house(database.url.get_secret_value(), _rule(settings), _today(), dry_run)
    if done is None:
        print("a sink is at it at this moment")
        return 0
    _print_housekeeping(done, dry_run)
    return 0


def _print_housekeeping(done: Housekeeping, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    print(f"{done.made} partitions made ahead")
    for table, day in done.dropped:
        print(f"{would}dropped: {table} of {day}")
    for table, count in done.deleted:
        print(f"{would}deleted: {count} rows of {table}")


def _rule(settings: SinkSettings) -> RetentionRule:
    return RetentionRule(
        settings.retention_spans_days,
        settings.retention_statistics_days,
        settings.retention_summary_days,
        settings.partitions_ahead_days,
    )


def _today() -> date:
    return datetime.now(UTC).date()


if __name__ == "__main__":
    sys.exit(main())
