"""Spans between the service and Kafka: encoded soon, because bytes are a tenth of the objects, and bounded."""

import logging
from collections import deque

from tracewatch.counters import Counters
from tracewatch.encoder import SpanEncoder
from tracewatch.ended_spans import EndedSpan
from tracewatch.records import EncodedSpan
from tracewatch.redaction import Redaction

logger = logging.getLogger(__name__)


class PendingSpans:
    """Encoded spans in the order of their ends, at most ``max_bytes`` of them. For one thread."""

    def __init__(self, max_bytes: int, counters: Counters, redaction: Redaction) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._counters = counters
        self._encoder = SpanEncoder(redaction, counters)
        self._spans: list[EncodedSpan] = []

    def __len__(self) -> int:
        return len(self._spans)

    def encode(self, queue: deque[EndedSpan], at_most: int) -> None:
        """Take up to ``at_most`` ended spans from the queue's head. What is beyond the bound is dropped and counted."""
        # The hottest loop of the exporter: local names, no call but the encoder's.
        popleft, encoded, append = queue.popleft, self._encoder.encoded, self._spans.append
        size_bytes, max_bytes = self.size_bytes, self._max_bytes
        for _ in range(min(len(queue), at_most)):
            try:
                each = encoded(popleft())
            except Exception:
                # A span is data of any kind (a str subclass whose encode fails): one of them must not stop the rest.
                self._counters.dropped_spans_total += 1
                logger.warning("A span could not be encoded and was dropped", exc_info=True)
                continue
            size = len(each[2])
            if size_bytes + size > max_bytes:
                self._counters.dropped_spans_total += 1
            else:
                append(each)
                size_bytes += size
        self.size_bytes = size_bytes

    def take(self, at_most: int) -> list[EncodedSpan]:
        """The oldest spans. They count until they are ``settled``."""
        taken = self._spans[:at_most]
        del self._spans[:at_most]
        return taken

    def put_back(self, spans: list[EncodedSpan]) -> None:
        """Spans that were taken and not settled, before all others."""
        self._spans[:0] = spans

    def settled(self, spans: list[EncodedSpan]) -> None:
        """Taken spans that are Kafka's now, or nobody's."""
        self.size_bytes -= sum([len(body) for _, _, body in spans])

    def clear(self) -> None:
        """Forget everything."""
        self.settled(self.take(len(self._spans)))
