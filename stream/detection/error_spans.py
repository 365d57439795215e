"""Error spans, judged the moment they arrive: grouped, and told apart into where an error began and where it passed.

A failing call shows on the callee's span, on the client's span, and on every span above. Spans come in any order, so
the memory of a trace's failed spans works both ways: a parent that arrives after its failed child is known to be
passing the error on; a child that arrives after its failed parent says which finding it explains.

A client's span only says that a call failed; where, its callee's span will say, if it has one. So it is judged when
its trace closes, and all others at once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from stream.detection.finding_id import finding_id
from tracecore.closed_trace import ClosedTrace
from tracecore.errors import MalformedPayload
from tracecore.finding import Finding
from tracecore.otlp import span_detail
from tracecore.redaction import BUILT_IN, MASK, Redaction
from tracecore.span import ONE_SPAN_MILLI, Span, SpanKind, StatusCode

#: Traces with failed spans that a partition remembers; beyond it the oldest is forgotten and its order no longer told.
MAX_TRACES = 10_000
#: Failed spans remembered of one trace.
MAX_SPANS_PER_TRACE = 256

#: What an error is called, in this order: OpenTelemetry's attributes, newer names first.
TYPE_ATTRIBUTES = (
    "error.type",
    "exception.type",
    "http.response.status_code",
    "http.status_code",
    "rpc.response.status_code",
    "rpc.grpc.status_code",
    "db.response.status_code",
)
UNKNOWN_TYPE = "error"
_MAX_TYPE_CHARS = 120
_MAX_MESSAGE_CHARS = 500
_ERROR = int(StatusCode.ERROR)
_CALLING = (SpanKind.CLIENT, SpanKind.PRODUCER)


class ErrorGroup(NamedTuple):
    """What makes two error spans the same error."""

    service: str
    operation: str
    error_type: str


class _Failed(NamedTuple):
    parent_span_id: bytes
    service: str
    operation: str
    #: Where the error began, as far as is known.
    origin_service: str


class ErrorSpans:
    """The span hook. State is a partition's own, and only as old as the traces under way."""

    def __init__(self, replay_id: str = "", redaction: Redaction = BUILT_IN) -> None:
        """``redaction`` masks what findings repeat of spans."""
        self._replay_id = replay_id
        self._redaction = redaction
        self._traces: dict[int, OrderedDict[bytes, dict[bytes, _Failed]]] = {}

    def on_spans(self, spans: Sequence[Span], arrival_ns: int, partition: int) -> list[Finding]:
        """A finding for each error group in the record, with the count of its spans; O(failed spans).

        The label ``caused_by`` names the service that the error came from, on spans that pass it on; the label
        ``explains`` names the services whose earlier findings are thereby explained.
        """
        # Every span that arrives is looked at here, and hardly one failed.
        failed = [span for span in spans if span[7] == _ERROR]
        if not failed:
            return []
        # In the order of their ends a callee stands before its caller even when one record brings both.
        failed.sort(key=lambda span: span.end_ns)
        groups: dict[tuple[ErrorGroup, str], list[Span]] = {}
        # Dicts for ordered sets: the nearest caller first.
        explained: dict[tuple[ErrorGroup, str], dict[str, None]] = {}
        for span in failed:
            origin, explains = self._place(span, partition)
            if span.kind in _CALLING:
                continue
            key = ErrorGroup(span.service, span.name, self._error_type(span.raw)), origin
            groups.setdefault(key, []).append(span)
            explained.setdefault(key, {}).update(explains)
        return [
            self._finding(group, origin, members, explained[group, origin], arrival_ns)
            for (group, origin), members in groups.items()
        ]

    def on_trace(self, closed: ClosedTrace) -> list[Finding]:
        """Failed calls whose callee told of no failure: it is not traced, or it was never reached."""
        if not closed.error_count or closed.revision > 1:
            return []
        failed = [span for span in closed.spans if span.status == StatusCode.ERROR]
        passed_on = {span.tree_parent_id for span in failed}
        findings: list[Finding] = []
        for span in failed:
            if span.kind not in _CALLING or span.span_id in passed_on:
                continue
            findings.append(
                Finding(
                    finding_id=finding_id("error", closed.trace_id, span.span_id),
                    kind="error",
                    service=span.service,
                    operation=span.name,
                    at_ns=span.end_ns,
                    arrival_ns=closed.last_arrival_ns,
                    observed=1.0,
                    unit="errors",
                    message=self._message(span.raw),
                    trace_id=closed.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    labels={"error_type": self._error_type(span.raw)},
                    replay_id=self._replay_id,
                )
            )
        return findings

    def forget(self, partition: int) -> None:
        """Drop what is known of a partition that is no longer this worker's."""
        self._traces.pop(partition, None)

    def _place(self, span: Span, partition: int) -> tuple[str, dict[str, None]]:
        """The service where the span's error began ("" if in itself), and the services it explains, nearest first."""
        traces = self._traces.setdefault(partition, OrderedDict())
        trace = traces.get(span.trace_id)
        if trace is None:
            trace = traces[span.trace_id] = {}
            if len(traces) > MAX_TRACES:
                traces.popitem(last=False)
        child = next((failed for failed in trace.values() if failed.parent_span_id == span.span_id), None)
        origin = child.origin_service if child else ""
        explains: dict[str, None] = {}
        above = span.parent_span_id
        for _ in range(len(trace)):  # no more steps than spans: parents may stand in a circle
            if (parent := trace.get(above)) is None:
                break
            if (parent.service, parent.operation) != (span.service, span.name):
                explains[parent.service] = None
            above = parent.parent_span_id
        if len(trace) < MAX_SPANS_PER_TRACE:
            trace[span.span_id] = _Failed(span.parent_span_id, span.service, span.name, origin or span.service)
        return origin, explains

    def _finding(
        self, group: ErrorGroup, origin: str, members: list[Span], explains: dict[str, None], arrival_ns: int
    ) -> Finding:
        first = members[0]
        labels = {"error_type": group.error_type}
        if origin:
            labels["caused_by"] = origin
        return Finding(
            finding_id=finding_id("error", first.trace_id, first.span_id),
            kind="error",
            service=group.service,
            operation=group.operation,
            at_ns=first.end_ns,
            arrival_ns=arrival_ns,
            observed=sum(span.count_milli for span in members) / ONE_SPAN_MILLI,
            unit="errors",
            message=self._message(first.raw),
            trace_id=first.trace_id.hex(),
            span_id=first.span_id.hex(),
            labels=labels,
            impacted=tuple(explains),
            replay_id=self._replay_id,
        )

    def _error_type(self, raw: bytes) -> str:
        """What kind of error a failed span tells of: its error or exception type, or its status code; else "error"."""
        try:
            detail = span_detail(raw)
        except MalformedPayload:
            return UNKNOWN_TYPE
        for name in TYPE_ATTRIBUTES:
            if value := detail.attributes.get(name):
                return self._masked(name, value)[:_MAX_TYPE_CHARS]
        for event in reversed(detail.events):
            if value := event.attributes.get("exception.type"):
                return self._masked("exception.type", value)[:_MAX_TYPE_CHARS]
        return UNKNOWN_TYPE

    def _message(self, raw: bytes) -> str:
        """What a person is told: the status message, or the exception's; empty if the span says nothing."""
        try:
            detail = span_detail(raw)
        except MalformedPayload:
            return ""
        # Masked before it is cut: half a card number is none, and half a secret matches no pattern.
        if detail.status_message:
            return self._redaction.text(detail.status_message)[:_MAX_MESSAGE_CHARS]
        messages = (event.attributes.get("exception.message") for event in reversed(detail.events))
        message = next((message for message in messages if message), "")
        return self._masked("exception.message", message)[:_MAX_MESSAGE_CHARS]

    def _masked(self, key: str, value: object) -> str:
        return MASK if value and self._redaction.is_secret(key) else self._redaction.text(str(value))
