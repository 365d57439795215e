"""A provider's span processors, each called only for what it has something to do at."""

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, SynchronousMultiSpanProcessor


class SpanProcessors(SynchronousMultiSpanProcessor):
    """The SDK's, without its calls of methods that do nothing: of ours, all at a span's start and before its end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._at_start: tuple[SpanProcessor, ...] = ()
        self._before_end: tuple[SpanProcessor, ...] = ()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Call this processor too, after the others."""
        with self._lock:
            self._span_processors += (span_processor,)
            if _overrides(span_processor, "on_start"):
                self._at_start += (span_processor,)
            if _overrides(span_processor, "_on_ending"):
                self._before_end += (span_processor,)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span starts."""
        for each in self._at_start:
            each.on_start(span, parent_context=parent_context)

    def _on_ending(self, span: Span) -> None:
        for each in self._before_end:
            each._on_ending(span)


def _overrides(processor: SpanProcessor, method: str) -> bool:
    # By its bound function: a wrapper may set a method of the instance alone.
    return getattr(getattr(processor, method, None), "__func__", None) is not getattr(SpanProcessor, method, None)
