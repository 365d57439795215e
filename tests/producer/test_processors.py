"""Processors are called for what they do, in the order in which they were added."""

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from tracewatch.processors import SpanProcessors


class AtEnd(SpanProcessor):
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    def on_end(self, span: ReadableSpan) -> None:
        self.calls.append(f"{self.name} end")


class Always(AtEnd):
    def on_start(self, span: Span, parent_context: object = None) -> None:
        self.calls.append(f"{self.name} start {parent_context}")

    def _on_ending(self, span: Span) -> None:
        self.calls.append(f"{self.name} ending")


def test_each_is_called_in_turn_and_one_that_only_waits_for_the_end_for_nothing_else() -> None:
    calls: list[str] = []
    processors = SpanProcessors()
    provider = TracerProvider(active_span_processor=processors, shutdown_on_exit=False)
    for processor in (AtEnd("a", calls), Always("b", calls), Always("c", calls)):
        provider.add_span_processor(processor)
    provider.get_tracer("t").start_span("s").end()
    assert calls == ["b start None", "c start None", "b ending", "c ending", "a end", "b end", "c end"]
    assert processors._at_start == processors._before_end == processors._span_processors[1:]


def test_a_method_that_was_put_on_one_processor_alone_is_called_too() -> None:
    calls: list[str] = []
    processor = SpanProcessor()
    processor.on_start = lambda span, parent_context=None: calls.append(span.name)  # type: ignore[method-assign]
    processors = SpanProcessors()
    processors.add_span_processor(processor)
    provider = TracerProvider(active_span_processor=processors, shutdown_on_exit=False)
    provider.get_tracer("t").start_span("s").end()
    assert calls == ["s"]
    assert provider.force_flush()
