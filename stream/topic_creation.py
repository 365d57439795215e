"""The topics exist before the stream reads: created once, by whichever worker comes first."""

import asyncio
import logging
import time
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream.errors import BrokerUnreachable, TopicNotCreated
from tracecore.settings import KafkaSettings
from tracecore.topics import TopicSpec

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_LOG_EVERY_S = 10.0


async def create_topics(kafka: KafkaSettings, specs: Sequence[TopicSpec], timeout_s: float) -> None:
    """Create those of ``specs`` that do not exist; waits for the broker, with a line in the log.

    Topics that exist are left as they are. Raises ``BrokerUnreachable`` after ``timeout_s``, ``TopicNotCreated`` if
    the broker refuses.
    """
    admin = await _connected(kafka, timeout_s)
    try:
        existing = set(await admin.list_topics())
        missing = [_new_topic(kafka, spec) for spec in specs if spec.name not in existing]
        if not missing:
            return
        answer = await admin.create_topics(missing)
        for name, code, *rest in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise TopicNotCreated(name, f"{error.__name__} {rest[0] if rest and rest[0] else ''}".strip())
        logger.info("created topics: %s", ", ".join(topic.name for topic in missing))
    finally:
        await admin.close()


async def _connected(kafka: KafkaSettings, timeout_s: float) -> AIOKafkaAdminClient:
    deadline = time.monotonic() + timeout_s
    next_log = 0.0
    while True:
        admin = AIOKafkaAdminClient(**kafka.client_options())
        try:
            await admin.start()
            return admin
        except (KafkaError, OSError) as error:
            await admin.close()
            now = time.monotonic()
            if now >= deadline:
                raise BrokerUnreachable(kafka.bootstrap_servers, str(error)) from error
            if now >= next_log:
                logger.warning("waiting for the broker at %s: %s", kafka.bootstrap_servers, error)
                next_log = now + _LOG_EVERY_S
        await asyncio.sleep(_RETRY_S)


def _new_topic(kafka: KafkaSettings, spec: TopicSpec) -> NewTopic:
    return NewTopic(
        spec.name,
        kafka.partitions if spec.partitioned else 1,
        kafka.replication_factor,
        topic_configs=dict(spec.config),
    )


async def partitions_of(kafka: KafkaSettings, topic: str) -> int:
    """How many partitions an existing topic has, whoever created it."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        (description,) = await admin.describe_topics([topic])
        return len(description["partitions"])
    finally:
        await admin.close()
