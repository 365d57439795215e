"""What stops the stream from starting or running.

TracewatchError
└── StreamError
    ├── BrokerUnreachable    no broker answers
    ├── TopicNotCreated      the broker refuses a topic
    └── DeliveryFailed       a record was not accepted: the worker stops, and its successor reads again
"""

from tracecore.errors import TracewatchError


class StreamError(TracewatchError):
    """The root of this room's errors."""


class BrokerUnreachable(StreamError):
    """No broker answered in time."""

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        super().__init__(
            f"no Kafka broker answers at {bootstrap_servers} ({reason}): start one, or set"
            " TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS"
        )


class TopicNotCreated(StreamError):
    """The broker refuses to create a topic."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(
            f"topic {topic} cannot be created: {reason}. Create it by hand, or see TRACEWATCH_KAFKA_PARTITIONS and"
            " TRACEWATCH_KAFKA_REPLICATION_FACTOR"
        )


class DeliveryFailed(StreamError):
    """A record that the stream published was not accepted."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"a record for {topic} was not accepted: {reason}")
