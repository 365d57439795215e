"""Topics: the contracts between rooms. What each carries, how it is keyed, how long it is kept."""

from dataclasses import dataclass

DAY_MS = 24 * 3600 * 1000

#: A record stays under this; a larger thing travels in parts. Kafka's own default limit is 1 MiB.
MAX_RECORD_BYTES = 1_000_000

#: What a partition of the replay topic may hold; a replay waits for its workers long before.
REPLAY_PARTITION_BYTES = 512 * 1024 * 1024

#: Header of every record that a replay made, and of all that is derived from it: the id of that replay.
REPLAY_HEADER = "tracewatch-replay"

#: Header of a replay's alerts of which receivers of notifications are to be told all the same: somebody asked for it.
NOTIFY_HEADER = "tracewatch-notify"

#: Header of the record, without spans, that ends a replay in its partition: all that is open then closes.
REPLAY_END_HEADER = "tracewatch-replay-end"

#: Header of records that a stopping worker leaves to its successor: their spans stand in the topic already.
HANDOVER_HEADER = "tracewatch-handover"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. ``partitioned`` topics have the deployment's partition count, others one."""

    name: str
    partitioned: bool
    config: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of all topics; ``prefix`` separates deployments that share a Kafka."""

    prefix: str = "tracewatch."
    otlp_spans: str = "otlp_spans"

    @property
    def spans(self) -> str:
        """OTLP protobuf, all spans of one partition a record. Partition: ``partition_of(trace id)``. Broker's time."""
        return f"{self.prefix}spans"

    @property
    def replay(self) -> str:
        """As ``spans``, with the original arrival as the record time and the replay id in a header."""
        return f"{self.prefix}replay"

    @property
    def traces(self) -> str:
        """``wire.encode_trace``: a revision of a closed trace, in parts where it is large. Key: trace id in hex."""
        return f"{self.prefix}traces"

    @property
    def windows(self) -> str:
        """``wire.encode_window``: statistics of ten seconds. Key: service and operation, or caller and callee."""
        return f"{self.prefix}windows"

    @property
    def findings(self) -> str:
        """``wire.encode_finding``: something a detector saw, key: the service it blames; and rounds of windows.

        One partition: all that alerting rests on stands in one order, so alerts follow from it alone.
        """
        return f"{self.prefix}findings"

    @property
    def alerts(self) -> str:
        """``wire.encode_alert``: an alert begins, repeats or ends. Key: fingerprint. One partition: one order."""
        return f"{self.prefix}alerts"

    @property
    def silences(self) -> str:
        """``wire.encode_silence``: the last word on each silence. Key: its id. Compacted; one partition."""
        return f"{self.prefix}silences"

    @property
    def health(self) -> str:
        """``wire.encode_health``: how a service was in a window. Key: the service."""
        return f"{self.prefix}health"

    @property
    def dead_letters(self) -> str:
        """What could not be read, byte for byte, with its origin and the reason in headers."""
        return f"{self.prefix}dead_letters"

    def specs(self) -> tuple[TopicSpec, ...]:
        """Every topic, as it is to be created."""
        day, week, month = (("retention.ms", str(days * DAY_MS)) for days in (1, 7, 30))
        # By size: the records of a replay are as old as what it repeats, and by age they would be gone unread.
        replays = (
            ("retention.ms", "-1"),
            ("retention.bytes", str(REPLAY_PARTITION_BYTES)),
            ("segment.bytes", str(REPLAY_PARTITION_BYTES // 8)),
        )
        arrival = ("message.timestamp.type", "LogAppendTime")
        # An original arrival may be weeks old, or an odd clock's: Kafka is not to judge it.
        original = ("message.timestamp.before.max.ms", str(2**63 - 1))
        return (
            TopicSpec(self.otlp_spans, True, (day, arrival)),
            TopicSpec(self.spans, True, (week, arrival)),
            TopicSpec(self.replay, True, (*replays, original)),
            TopicSpec(self.traces, True, (week,)),
            TopicSpec(self.windows, True, (week,)),
            TopicSpec(self.findings, False, (week,)),
            TopicSpec(self.alerts, False, (month,)),
            TopicSpec(self.silences, False, (("cleanup.policy", "compact"),)),
            TopicSpec(self.health, False, (month,)),
            TopicSpec(self.dead_letters, False, (month,)),
        )
