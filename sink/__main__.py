"""python -m sink: keeps the history. Also: retention, dead-letters."""

import argparse
import asyncio
import logging
import signal
import sys

from aiokafka.errors import KafkaError

from sink.consumer import Sink
from sink.settings import SinkSettings
from sink.store import Store
from sink.telemetry import Metrics, TelemetryServer, steady_s
from tracecore.errors import InvalidSetting
from tracecore.settings import DatabaseSettings, KafkaSettings, read

logger = logging.getLogger("sink")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or a command that was done, 1 if something is wrong that a person must change."""
    parser = argparse.ArgumentParser(prog="python -m sink", description="Keeps the history in PostgreSQL.")
    parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    try:
        settings, kafka, database = read(SinkSettings), read(KafkaSettings), read(DatabaseSettings)
        asyncio.run(_run(settings, kafka, database))
    except InvalidSetting as error:
        print(f"sink: {error}", file=sys.stderr)
        return 1
    except KafkaError as error:
        print(f"sink: Kafka cannot be reached; is TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS right? {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sink: cannot serve /healthz; is TRACEWATCH_SINK_PORT taken? {error}", file=sys.stderr)
        return 1
    return 0


async def _run(settings: SinkSettings, kafka: KafkaSettings, database: DatabaseSettings) -> None:
    metrics = Metrics()
    store = Store(database.url.get_secret_value(), redrive_topic=kafka.topics.otlp_spans)
    sink = Sink(kafka, settings, store, metrics)
    server = TelemetryServer(
        settings.host, settings.port, metrics.registry, lambda: sink.progress.problem(steady_s(), settings.stalled_s)
    )
    logger.info("/healthz and /metrics on http://%s:%d", settings.host, server.port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sink.stop)
    try:
        await sink.run()
    finally:
        server.close()
        store.close()
    logger.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
