"""Spans between the service and Kafka: encoded at once, because bytes are a tenth of the objects, and bounded."""

import logging
from collections import deque
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan

from tracewatch.encoder import SpanEncoder
from tracewatch.records import EncodedSpan
from tracewatch.settings import MAX_RECORD_BYTES

logger = logging.getLogger(__name__)

# Below this a span fits into a record whatever it lies in: SpanEncoder bounds envelopes at half a record.
_FITS_BYTES = MAX_RECORD_BYTES // 2 - 64
# A span too large for a record is encoded again with its texts cut to these lengths, in turn.
_CUTS = (16_384, 1024, 64)


@dataclass(slots=True)
class Counters:
    """What became of the spans of this process, since its start or fork.

    ``dropped_spans_total`` were never delivered: the queue was full, the pending
    bytes were at their bound, nothing could encode or store them, or the process
    ended while Kafka was away.
    """

    exported_spans_total: int = 0
    exported_records_total: int = 0
    dropped_spans_total: int = 0
    shortened_spans_total: int = 0
    delivery_failures_total: int = 0


class PendingSpans:
    """Encoded spans in the order of their ends, at most ``max_bytes`` of them. For one thread."""

    def __init__(self, max_bytes: int, counters: Counters) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._counters = counters
        self._encoder = SpanEncoder()
        self._spans: list[EncodedSpan] = []

    def __len__(self) -> int:
        return len(self._spans)

    def encode(self, queue: deque[ReadableSpan], at_most: int) -> None:
        """Take up to ``at_most`` ended spans from the queue's head. What is beyond the bound is dropped and counted."""
        # The hottest loop of the exporter: local names, no call but the encoder's.
        encoded, append, size_bytes, max_bytes = (
            self._encoder.encoded,
            self._spans.append,
            self.size_bytes,
            self._max_bytes,
        )
        for _ in range(min(len(queue), at_most)):
            span = queue.popleft()
            try:
                each = encoded(span)
                size = len(each[2])
                if size > _FITS_BYTES:
                    each = self._fitting(span, each)
                    size = len(each[2])
            except Exception:
                # A span is data of any kind (a str subclass whose encode fails): one of them must not stop the rest.
                self._counters.dropped_spans_total += 1
                logger.warning("A span could not be encoded and was dropped", exc_info=True)
                continue
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
        self.size_bytes -= sum([len(span[2]) for span in spans])

    def clear(self) -> None:
        """Forget everything."""
        self.settled(self.take(len(self._spans)))

    def _fitting(self, span: ReadableSpan, whole: EncodedSpan) -> EncodedSpan:
        limit = MAX_RECORD_BYTES - whole[1].size_bytes - 64
        if len(whole[2]) <= limit:
            return whole
        for max_text_length in _CUTS:
            shortened = self._encoder.encoded(span, max_text_length)
            if len(shortened[2]) <= limit:
                self._counters.shortened_spans_total += 1
                return shortened
        raise ValueError(f"a span of {len(whole[2])} bytes does not fit into a record, even with its texts cut")
