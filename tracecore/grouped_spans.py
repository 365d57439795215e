"""The spans of one request as columns, trace by trace: an assembler takes them so, not span by span."""

from array import array
from typing import Any

import numpy as np

from tracecore.span import Span, StatusCode
from tracecore.span_columns import RAW_AT, STATUS, SpanColumns

_ERROR = int(StatusCode.ERROR)

Array = np.ndarray[Any, Any]


#: The spans of one trace: its id, from which to which they stand, whether (not 0) a root is among them, and whether two
#: have one identity (``span.identity``). A plain tuple, for there are hundreds of thousands a second.
TraceGroup = tuple[bytes, int, int, int, int]


class GroupedSpans:
    """The spans of one request, those of each trace together; traces and their spans in the order of the request.

    They are ``low`` to ``high`` of ``columns``, which hold those of other requests, too; so do ``keys``. Spans of one
    trace with one identity have one key, and hardly ever have others.
    """

    __slots__ = ("columns", "groups", "has_failed", "high", "keys", "low")

    def __init__(
        self, columns: SpanColumns, keys: "array[int]", groups: list[TraceGroup], low: int, high: int, has_failed: bool
    ) -> None:
        self.columns = columns
        self.keys = keys
        self.groups = groups
        self.low = low
        self.high = high
        self.has_failed = has_failed

    def __len__(self) -> int:
        return self.high - self.low

    def in_order(self) -> list[Span]:
        """All of them, made, in the order of the request."""
        return self._made(np.arange(self.low, self.high))

    def failed(self) -> list[Span]:
        """Those with the status Error, made, in the order of the request."""
        if not self.has_failed:
            return []
        return self._made(np.flatnonzero(self.columns.table[STATUS, self.low : self.high] == _ERROR) + self.low)

    def _made(self, places: Array) -> list[Span]:
        return list(self.columns.taken(places[np.argsort(self.columns.table[RAW_AT, places])]))
