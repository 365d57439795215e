"""The traces that are sent: each follows from its entrance and number, so that the books need numbers only. Pure."""

import struct
from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from tracecore.span import SpanKind

#: Where spans enter: our SDK's exporter, the OTLP/HTTP gateway, and the Collector's topic (by the router).
ENTRANCES: Final = ("sdk", "gateway", "collector")
#: Each entrance's part of the traces.
SHARES: Final = {"sdk": 0.6, "gateway": 0.2, "collector": 0.2}
#: The first bytes of every trace id of ours.
_TAG: Final = b"\xc4\xa0"
_MILLISECOND_NS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """A span of the pattern; ``parent`` is a place in it, -1 for the root. Milliseconds from the root's start."""

    parent: int
    service: str
    operation: str
    kind: SpanKind
    start_ms: float
    duration_ms: float


PATTERN: Final = (
    Step(-1, "web", "GET /basket", SpanKind.SERVER, 0.0, 50.0),
    Step(0, "web", "GET", SpanKind.CLIENT, 2.0, 14.0),
    Step(1, "basket", "GET /items", SpanKind.SERVER, 3.0, 12.0),
    Step(2, "basket", "SELECT items", SpanKind.CLIENT, 5.0, 6.0),
    Step(0, "web", "POST", SpanKind.CLIENT, 18.0, 30.0),
    Step(4, "payment", "POST /charge", SpanKind.SERVER, 19.0, 28.0),
    Step(5, "payment", "authorize", SpanKind.INTERNAL, 20.0, 8.0),
    Step(5, "payment", "GET", SpanKind.CLIENT, 30.0, 15.0),
    Step(7, "prices", "GET /quote", SpanKind.SERVER, 31.0, 13.0),
    Step(8, "prices", "parse", SpanKind.INTERNAL, 33.0, 5.0),
)
SPANS: Final = len(PATTERN)
#: The place in the pattern that fails during an incident.
FAILING: Final = 6
SERVICES: Final = tuple(dict.fromkeys(step.service for step in PATTERN))
#: During an incident one trace in so many fails.
FAILS_EVERY: Final = 4


@dataclass(frozen=True, slots=True)
class Trace:
    """One trace to send. ``failing`` is the operation of the incident it belongs to, or empty."""

    entrance: str
    number: int
    start_ns: int
    failing: str = ""

    @property
    def trace_id(self) -> bytes:
        """16 bytes."""
        return trace_id_of(self.entrance, self.number)

    def span_id(self, place: int) -> bytes:
        """8 bytes."""
        return span_id_of(self.number, place)

    def times_ns(self, place: int) -> tuple[int, int]:
        """Start and end; no two traces are quite alike."""
        step = PATTERN[place]
        start_ns = self.start_ns + round(step.start_ms * _MILLISECOND_NS)
        return start_ns, start_ns + round(step.duration_ms * _MILLISECOND_NS) + self.number % 997 * 1000

    def operation(self, place: int) -> str:
        """The span's name."""
        return self.failing if self.failing and place == FAILING else PATTERN[place].operation

    def service(self, place: int) -> str:
        """Each entrance has services of its own, so that what is told of them tells the entrance."""
        return service_of(self.entrance, PATTERN[place].service)


def service_of(entrance: str, service: str) -> str:
    """The name of a service behind an entrance."""
    return f"{entrance}-{service}"


def trace_id_of(entrance: str, number: int) -> bytes:
    """16 bytes that tell entrance and number."""
    return _TAG + struct.pack(">BxIQ", ENTRANCES.index(entrance) + 1, number * 2654435761 % 2**32, number)


def span_id_of(number: int, place: int) -> bytes:
    """8 bytes, not zero."""
    return struct.pack(">IHH", number % 2**32, place + 1, 0xC4A0)


def told_by(trace_id: bytes) -> tuple[str, int] | None:
    """Entrance and number of a trace of ours; None for any other."""
    if trace_id[:2] != _TAG:
        return None
    entrance, _, number = struct.unpack(">BxIQ", trace_id[2:])
    return ENTRANCES[entrance - 1], number


def otlp_request(spans: list[tuple[Trace, int]]) -> bytes:
    """Spans, each a trace and a place in its pattern, as an ``ExportTraceServiceRequest``."""
    request = ExportTraceServiceRequest()
    scopes: dict[str, trace_pb2.ScopeSpans] = {}
    for trace, place in spans:
        service = trace.service(place)
        scope = scopes.get(service)
        if scope is None:
            resource = request.resource_spans.add()
            attribute = resource.resource.attributes.add()
            attribute.key, attribute.value.string_value = "service.name", service
            scope = scopes[service] = resource.scope_spans.add()
        _add_span(scope, trace, place)
    return request.SerializeToString()


def _add_span(scope: trace_pb2.ScopeSpans, trace: Trace, place: int) -> None:
    step = PATTERN[place]
    span = scope.spans.add()
    span.trace_id, span.span_id = trace.trace_id, trace.span_id(place)
    if step.parent >= 0:
        span.parent_span_id = trace.span_id(step.parent)
    span.name, span.kind = trace.operation(place), int(step.kind)
    span.start_time_unix_nano, span.end_time_unix_nano = trace.times_ns(place)
    attribute = span.attributes.add()
    attribute.key, attribute.value.int_value = "number", trace.number
    if trace.failing and place == FAILING:
        span.status.code, span.status.message = trace_pb2.Status.STATUS_CODE_ERROR, "on purpose"
        error = span.attributes.add()
        error.key, error.value.string_value = "error.type", "Incident"
