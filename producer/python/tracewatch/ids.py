"""Trace and span ids: random, unless the caller named the trace without naming a span."""

from contextvars import ContextVar
from random import getrandbits

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

# OpenTelemetry's id generators see no context: the middleware leaves the caller's trace id here for one span's start.
named_trace_id: ContextVar[int | None] = ContextVar("tracewatch_named_trace_id", default=None)


class NamedTraceIdGenerator(RandomIdGenerator):
    """Random ids; a root span takes ``named_trace_id`` where that is set."""

    def generate_trace_id(self) -> int:
        """A 128-bit id, never 0."""
        return named_trace_id.get() or getrandbits(128) or super().generate_trace_id()
