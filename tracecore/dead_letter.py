"""What cannot be read goes to the dead-letter topic byte for byte; these headers tell where it stood, and why."""

from tracecore.errors import UndecodableRecord

ORIGIN_TOPIC_HEADER = "tracewatch-origin-topic"
ORIGIN_PARTITION_HEADER = "tracewatch-origin-partition"
ORIGIN_OFFSET_HEADER = "tracewatch-origin-offset"
REASON_HEADER = "tracewatch-reason"

#: Kafka limits headers only by the record; a reason longer than this explains nothing more.
_MAX_REASON_BYTES = 2000


def dead_letter_headers(error: UndecodableRecord) -> tuple[tuple[str, bytes], ...]:
    """Where the record stood, numbers in decimal digits, and why it could not be read."""
    return (
        (ORIGIN_TOPIC_HEADER, error.topic.encode()),
        (ORIGIN_PARTITION_HEADER, str(error.partition).encode()),
        (ORIGIN_OFFSET_HEADER, str(error.offset).encode()),
        (REASON_HEADER, error.reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES]),
    )
