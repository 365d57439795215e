"""A span as the pipeline holds it: the few decoded fields that every step needs, beside the bytes as they came."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

#: Counts are held in thousandths of a span: integers add up in any order to the same sum, floats do not,
#: and a sampled span stands for a fraction's reciprocal of spans (10 % sampled: 10 000 thousandths).
ONE_SPAN_MILLI = 1000
#: The most that a sampled span may stand for: four thousand million spans.
MAX_COUNT_MILLI = (1 << 32) * ONE_SPAN_MILLI


class SpanKind(IntEnum):
    """OTLP's span kinds."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class StatusCode(IntEnum):
    """OTLP's status codes."""

    UNSET = 0
    OK = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Resource:
    """Who made spans: OTLP's Resource message as it came, and what was read from it."""

    raw: bytes
    schema_url: str
    service: str
    #: Whose clock it is: host.id, host.name, container or instance id; the service's name where none is told.
    host: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which library made spans: OTLP's InstrumentationScope message as it came."""

    raw: bytes
    schema_url: str


class Span(NamedTuple):
    """One span. A tuple, because a worker makes hundreds of thousands a second: half a frozen dataclass's cost.

    ``trace_id`` 16 bytes and ``span_id`` 8 bytes, neither zero; ``parent_span_id`` 8 bytes, or empty for a root.
    ``start_ns`` and ``end_ns`` Unix time as sent: end may lie before start. ``raw`` is OTLP's Span message.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    count_milli: int
    resource: Resource
    scope: Scope
    raw: bytes

    @property
    def service(self) -> str:
        """``service.name`` of the resource."""
        return self.resource.service

    @property
    def is_error(self) -> bool:
        """True if the status code is Error."""
        return self.status == StatusCode.ERROR


def identity(span: Span) -> bytes:
    """What makes two spans of one trace the same span: the span id, and which side of the call tells it.

    Zipkin's libraries (B3) give the client's and the server's span of one call the same id. Both are true and both
    are kept: a SERVER or CONSUMER span is told apart from one of any other kind. A span that is sent twice, be it
    with another ending, has the same identity. In a closed trace such a server's span has an id of its own
    (``tree.shared_span_id``), so that there the span id alone is the identity.
    """
    return span.span_id + _RECEIVING if span.kind == SpanKind.SERVER or span.kind == SpanKind.CONSUMER else span.span_id


def truer(first: Span, second: Span) -> Span:
    """Of two spans with the same identity the one to keep, whichever came first: that which ends last.

    Ties are settled by the bytes, so that every order of arrival keeps the same.
    """
    return second if _weight(second) > _weight(first) else first


def _weight(span: Span) -> tuple[int, bytes, bytes, str, bytes, str]:
    resource, scope = span.resource, span.scope
    return span.end_ns, span.raw, resource.raw, resource.schema_url, scope.raw, scope.schema_url


_RECEIVING = b"<"
