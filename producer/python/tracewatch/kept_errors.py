"""Traces that head sampling passed over, kept after all when their local root ends in an error."""

import threading
from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

# Beyond these, spans are let go: a bound for traces whose root never ends.
_MAX_TRACES = 1024
_MAX_SPANS_OF_A_TRACE = 128


class KeptErrors(SpanProcessor):
    """Holds the recorded, unsampled spans of this process until their local root ends, to export them if it fails.

    Works with the ``ErrorsToo`` sampler. The parts of the trace in other services
    are not brought back: they saw an unsampled trace.
    """

    def __init__(self, export: Callable[[ReadableSpan], object]) -> None:
        self._export = export
        self._held: dict[int, list[ReadableSpan]] = {}
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Hold an unsampled span; at its local root, export or forget the trace."""
        context = span.context
        if context is None or context.trace_flags.sampled:
            return
        is_local_root = span.parent is None or span.parent.is_remote
        with self._lock:
            if is_local_root:
                held = self._held.pop(context.trace_id, [])
            elif context.trace_id in self._held or len(self._held) < _MAX_TRACES:
                spans = self._held.setdefault(context.trace_id, [])
                if len(spans) < _MAX_SPANS_OF_A_TRACE:
                    spans.append(span)
        if is_local_root and span.status.status_code is StatusCode.ERROR:
            for kept in (*held, span):
                self._export(kept)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing of its own to flush."""
        return True

    def shutdown(self) -> None:
        """Forget what is held."""
        with self._lock:
            self._held.clear()
