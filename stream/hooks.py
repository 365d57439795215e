"""Where detection meets the span agent: what it calls with spans as they arrive, with traces as
they close, and with windows as they close.

They run inside the agent's loop: they must not block, and take ``arrival_ns`` for a clock. A partition that is read
again (after a crash, or a rebalance) shows the same spans again; findings must come out with the same ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.span import Span
from tracecore.window import Window


class SpanHook(Protocol):
    """Judges failed spans the moment they arrive."""

    def on_spans(self, spans: Sequence[Span], arrival_ns: int, partition: int) -> list[Finding]:
        """Findings in ``spans``: those of one record of source ``partition`` with the status Error, at least.

        A producer may repeat spans.

        ``arrival_ns`` is the record's time by the broker's clock. Spans of many traces and services.
        """
        ...


class TraceHook(Protocol):
    """Judges traces as they close: self time, client-server gaps, new dependencies."""

    def on_trace(self, closed: ClosedTrace) -> list[Finding]:
        """Findings in one revision of a trace; a further revision (``revision > 1``) holds all of its spans again."""
        ...


@runtime_checkable
class TracesHook(TraceHook, Protocol):
    """A trace hook that judges many traces sooner than one by one."""

    def on_traces(self, closed: Sequence[ClosedTrace]) -> Mapping[int, list[Finding]]:
        """``on_trace`` of each, in their order: by its place, if there are findings in it."""
        ...


class WindowHook(Protocol):
    """Judges what a partition saw in ten seconds. Its heartbeat, too: silence is only seen by one who is called."""

    def on_windows(
        self, windows: Sequence[Window], closed_until_ns: int, arrival_ns: int, partition: int, partitions: int
    ) -> list[bytes]:
        """Records for the findings topic; called as source ``partition`` closes a window, even one without spans.

        ``windows`` are all of the partition's windows that closed now. No further window of it that is on time ends
        at or before ``closed_until_ns``. ``arrival_ns`` is the partition's watermark, ``partitions`` the source
        topic's count.
        """
        ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """What judges one stream of spans: the live one, or a replay."""

    span_hook: SpanHook | None = None
    trace_hook: TraceHook | None = None
    window_hook: WindowHook | None = None
