"""The spans of one record as columns: an assembler takes them so, and makes no object for each."""

from collections.abc import Iterator

import numpy as np

from tracecore.span import Span, StatusCode
from tracecore.span_columns import STATUS, SpanColumns

_ERROR = int(StatusCode.ERROR)


class RecordSpans:
    """The spans of one record, in its order: ``low`` to ``high`` of ``columns``, which hold those of others, too."""

    __slots__ = ("columns", "has_failed", "high", "low")

    def __init__(self, columns: SpanColumns, low: int, high: int, has_failed: bool) -> None:
        self.columns = columns
        self.low = low
        self.high = high
        #: False if none of them has the status Error.
        self.has_failed = has_failed

    def __len__(self) -> int:
        return self.high - self.low

    def __iter__(self) -> Iterator[Span]:
        return iter(self.made())

    def made(self) -> list[Span]:
        """All of them, made."""
        return self.columns[self.low : self.high]

    def failed(self) -> list[Span]:
        """Those with the status Error, made."""
        if not self.has_failed:
            return []
        failed = np.flatnonzero(self.columns.table[STATUS, self.low : self.high] == _ERROR) + self.low
        return list(self.columns.taken(failed))
