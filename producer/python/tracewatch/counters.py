"""What became of the spans of a process."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the process's start or fork.

    ``dropped_spans_total`` were never delivered: the queue was full, the pending
    bytes were at their bound, nothing could encode or store them, or the process
    ended while Kafka was away. Several threads add to it without a lock: CPython
    changes threads between statements, not inside ``+=``.
    """

    exported_spans_total: int = 0
    exported_records_total: int = 0
    dropped_spans_total: int = 0
    shortened_spans_total: int = 0
    delivery_failures_total: int = 0
