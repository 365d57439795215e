"""Where detection meets the span agent: what it calls with spans as they arrive, and with traces as they close.

Both run inside the agent's loop: they must not block, and take ``arrival_ns`` for a clock. A partition that is read
again (after a crash, or a rebalance) shows the same spans again; findings must come out with the same ids.
"""

from collections.abc import Sequence
from typing import Protocol

from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.span import Span


class SpanHook(Protocol):
    """Judges spans the moment they arrive: error spans, spans far outside their operation's baseline."""

    def on_spans(self, spans: Sequence[Span], arrival_ns: int, partition: int) -> list[Finding]:
        """Findings in ``spans``: those of one record, duplicates removed, of source ``partition``.

        ``arrival_ns`` is the record's time by the broker's clock. Spans of many traces and services.
        """
        ...


class TraceHook(Protocol):
    """Judges traces as they close: self time, client-server gaps, new dependencies."""

    def on_trace(self, closed: ClosedTrace) -> list[Finding]:
        """Findings in one revision of a trace; a further revision (``revision > 1``) holds all of its spans again."""
        ...
