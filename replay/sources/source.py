"""What a source is."""

from collections.abc import AsyncIterator
from typing import Protocol

from replay.records import SourceRecord


class Source(Protocol):
    """A stretch of records, readable more than once, each time the same."""

    @property
    def name(self) -> str:
        """For people: ``topic:tracewatch.spans``, ``otlp:day.otlp.zst``, ``history``."""

    @property
    def total_records(self) -> int | None:
        """Records in the stretch, where that is known before they are read."""

    def records(self) -> AsyncIterator[SourceRecord]:
        """All records, oldest arrival first. Raises ``SourceUnreadable``."""
