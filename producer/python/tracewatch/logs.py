"""Trace and span ids on log records, so that a log line finds its trace."""

import logging

from opentelemetry import trace


class TraceContextFilter(logging.Filter):
    """Puts ``trace_id``, ``span_id`` and ``trace_sampled`` on every record; empty and False outside a span.

        handler.addFilter(TraceContextFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s %(trace_id)s %(message)s"))

    Add it to handlers: a filter of a logger does not see its children's records.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Annotate; every record passes."""
        context = trace.get_current_span().get_span_context()
        valid = context.is_valid
        record.trace_id = f"{context.trace_id:032x}" if valid else ""
        record.span_id = f"{context.span_id:016x}" if valid else ""
        record.trace_sampled = valid and context.trace_flags.sampled
        return True
