"""``python -m stream``: one worker, configured by the environment; SIGTERM hands over what is open and ends it."""

import asyncio
import logging
import sys

import faust

from stream.app import create_app
from stream.settings import StreamSettings
from stream.topic_creation import create_topics, partitions_of
from stream.watchdog import watch
from tracecore.errors import TracewatchError
from tracecore.settings import KafkaSettings, read

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


async def _prepared(kafka: KafkaSettings, settings: StreamSettings) -> int:
    await create_topics(kafka, kafka.topics.specs(), settings.broker_timeout_s)
    return await partitions_of(kafka, kafka.topics.spans)


def main() -> None:
    """Read the settings, make sure of the topics, run until a signal."""
    try:
        kafka, settings = read(KafkaSettings), read(StreamSettings)
        partitions = asyncio.run(_prepared(kafka, settings))
        app = create_app(kafka, settings, partitions)
    except TracewatchError as error:
        sys.exit(f"stream: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    watch(app)
    faust.Worker(app, loglevel="INFO", quiet=True, override_logging=False).execute_from_commandline()


if __name__ == "__main__":
    main()
