"""``python -m stream``: one worker, configured by the environment; SIGTERM ends it and loses nothing."""

import asyncio
import logging
import sys

import faust

from stream.alerting.settings import AlertingSettings
from stream.app import create_app
from stream.compiled import warm_up_beside
from stream.settings import StreamSettings
from stream.topic_creation import create_topics, partitions_of
from stream.watchdog import watch
from tracecore.errors import TracewatchError
from tracecore.freed_memory import keep_freed_memory
from tracecore.logs import start_logging
from tracecore.settings import KafkaSettings, LogSettings, RedactionSettings, read

logger = logging.getLogger("stream")


async def _prepared(kafka: KafkaSettings, settings: StreamSettings) -> int:
    await create_topics(kafka, kafka.topics.specs(), settings.broker_timeout_s)
    return await partitions_of(kafka, kafka.topics.spans)


def main() -> None:
    """Read the settings, make sure of the topics, run until a signal."""
    try:
        start_logging(read(LogSettings), "stream")
        kafka, settings = read(KafkaSettings), read(StreamSettings)
        read(AlertingSettings), read(RedactionSettings)  # a wrong one ends the start here, not after the broker came
        partitions = asyncio.run(_prepared(kafka, settings))
        app = create_app(kafka, settings, partitions)
    except TracewatchError as error:
        logger.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    keep_freed_memory()
    watch(app)
    warm_up_beside()
    faust.Worker(app, loglevel="INFO", quiet=True, override_logging=False).execute_from_commandline()


if __name__ == "__main__":
    main()
