"""Spans to Kafka: the exporter, and the span processor that feeds it without delay.

``KafkaSpanExporter`` is an ordinary OpenTelemetry exporter, so it works behind
``OTEL_TRACES_EXPORTER=tracewatch`` and any BatchSpanProcessor. It queues,
lingers and batches by itself; ``KafkaSpanProcessor`` therefore passes each
ended span straight on, which is what ``tracewatch.configure`` sets up.
"""

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from tracewatch.counters import Counters
from tracewatch.delivery import ENCODE_AT_SPANS, Delivery
from tracewatch.ended_spans import EndedSpan, ended
from tracewatch.settings import ProducerSettings

logger = logging.getLogger(__name__)

# A forked child must neither use nor finalize what belongs to its parent's thread: it keeps it untouched.
_parents_deliveries: list[Delivery] = []


class KafkaSpanExporter(SpanExporter):
    """Publishes spans to a Kafka topic from a background thread that starts with the first span.

    Nothing here blocks or raises into the service but ``force_flush`` and
    ``shutdown``, which wait for their timeouts at most. ``settings`` defaults to
    the environment; reading it raises InvalidSetting.
    """

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        self.settings = settings or ProducerSettings.from_environment()
        self.counters = Counters()
        self._queue: deque[EndedSpan] = deque()
        self._delivery: Delivery | None = None
        self._starting = threading.Lock()
        self._is_shut_down = False
        reset = weakref.WeakMethod(self._reset_after_fork)
        os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def offer(self, span: ReadableSpan) -> bool:
        """Queue one ended span; False if it was dropped. Called on the service's threads."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= self.settings.max_queue_spans:
            self.counters.dropped_spans_total += 1
            return False
        delivery = self._delivery or self._started()
        if delivery is None:
            return False
        try:
            queue.append(ended(span))
        except Exception:
            # Spans may be anybody's: one that is none must not raise into the service.
            self.counters.dropped_spans_total += 1
            logger.warning("A span could not be read and was dropped", exc_info=True)
            return False
        if waiting >= ENCODE_AT_SPANS and not delivery.encoding:
            delivery.encode_soon()
        if not delivery.hurried:
            parent = span.parent
            if parent is None or parent.is_remote or span.status.status_code is StatusCode.ERROR:
                delivery.hurry()
            elif not delivery.armed:
                delivery.arm()
        return True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue a batch. FAILURE if any of it was dropped."""
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        taken = [self.offer(span) for span in spans]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until Kafka has acknowledged every span queued so far; False when time is up."""
        return self._delivery is None or self._delivery.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Deliver what is queued within ``settings.flush_timeout_s`` and end the thread."""
        with self._starting:
            self._is_shut_down = True
            delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.stop(self.settings.flush_timeout_s)

    def _started(self) -> Delivery | None:
        with self._starting:
            if self._delivery is None and not self._is_shut_down:
                try:
                    self._delivery = Delivery(self.settings, self._queue, self.counters)
                except RuntimeError as error:
                    # The interpreter is ending and starts no more threads.
                    logger.warning("spans are dropped: %s", error)
            if self._delivery is None:
                self.counters.dropped_spans_total += 1
            return self._delivery

    def _reset_after_fork(self) -> None:
        # Threads do not survive a fork, and the queued spans are the parent's to deliver.
        if self._delivery is not None:
            _parents_deliveries.append(self._delivery)
        self._delivery = None
        self._queue = deque()
        self._starting = threading.Lock()
        self.counters = Counters()


class KafkaSpanProcessor(SpanProcessor):
    """Hands each sampled span to the exporter as it ends."""

    def __init__(self, exporter: KafkaSpanExporter) -> None:
        self.exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if its trace is sampled."""
        context = span._context
        # The fourth field: the trace flags.
        if context is not None and context[3] & 1:
            self.exporter.offer(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See KafkaSpanExporter.force_flush."""
        return self.exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """See KafkaSpanExporter.shutdown."""
        self.exporter.shutdown()
