"""Topics and offsets that a replay needs to be there, and what it tidies up behind itself."""

import logging
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from replay.errors import ReplayError
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)


async def create_missing_topics(kafka: KafkaSettings) -> None:
    """Create the topics of the deployment that do not exist yet. Raises ``ReplayError`` if Kafka refuses."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        missing = [
            NewTopic(
                spec.name,
                kafka.partitions if spec.partitioned else 1,
                kafka.replication_factor,
                topic_configs=dict(spec.config),
            )
            for spec in kafka.topics.specs()
            if spec.name not in existing
        ]
        if missing:
            for name, code, *_ in (await admin.create_topics(missing)).topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise ReplayError(f"Kafka did not create topic {name}: {for_code(code).__name__}")
    except (KafkaError, OSError) as error:
        raise ReplayError(f"no Kafka at {kafka.bootstrap_servers}: {error!r}") from None
    finally:
        await admin.close()


async def partitions_of(kafka: KafkaSettings, topic: str) -> list[int]:
    """The numbers of a topic's partitions; none if there is no such topic."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        if topic not in await admin.list_topics():
            return []
        (description,) = await admin.describe_topics([topic])
        return sorted(each["partition"] for each in description["partitions"])
    finally:
        await admin.close()


async def start_group_at(
    kafka: KafkaSettings, group: str, offsets: Mapping[str, Mapping[int, int]]
) -> dict[TopicPartition, int]:
    """Commit ``offsets`` (by topic and partition) for ``group`` where it has none; what it then stands at.

    Nobody may be in the group yet.
    """
    wanted = {TopicPartition(topic, number): at for topic, ats in offsets.items() for number, at in ats.items()}
    consumer = AIOKafkaConsumer(**kafka.client_options(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(wanted))
        known = {partition: await consumer.committed(partition) for partition in wanted}
        missing = {partition: at for partition, at in wanted.items() if known[partition] is None}
        if missing:
            await consumer.commit(missing)
        return {partition: missing.get(partition, known[partition]) for partition in wanted}
    finally:
        await consumer.stop()


async def delete_topics(kafka: KafkaSettings, prefix: str) -> None:
    """Delete the topics whose names begin with ``prefix``."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if names:
            await admin.delete_topics(names)
    finally:
        await admin.close()


async def forget_records(kafka: KafkaSettings, topic: str, ends: Mapping[int, int]) -> None:
    """Let Kafka delete what stands before ``ends``. A broker that cannot keeps it, up to the topic's size."""
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        before = {TopicPartition(topic, number): RecordsToDelete(end) for number, end in ends.items() if end}
        if before:
            await admin.delete_records(before)
    except (KafkaError, NotImplementedError) as error:
        logger.info("%s keeps its records: %r", topic, error)
    finally:
        await admin.close()


def next_offsets(committed: Mapping[TopicPartition, int], topic: str) -> dict[int, int]:
    """The offsets of one topic, by partition."""
    return {partition.partition: at for partition, at in committed.items() if partition.topic == topic}
