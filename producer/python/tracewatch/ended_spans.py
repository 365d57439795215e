"""What is kept of a span that has ended until it is encoded."""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import DEFAULT_TRACE_STATE, Link, SpanContext, SpanKind, Status, TraceState

# Trace id, span id, trace flags, state and parent; name, kind, start and end in Unix nanoseconds; attributes and how
# many were dropped; events and links, None without any; status, resource and scope.
#
# One tuple in place of the SDK's dozen objects with their locks: those die where they were born, in the processor's
# caches, and the garbage collector, which else would have followed all that wait, took a sixth of a span's whole cost.
EndedSpan = tuple[
    int, int, int, TraceState | None, SpanContext | None,
    str, SpanKind, int, int,
    Mapping[str, Any] | None, int,
    Sequence[Event] | None, Sequence[Link] | None,
    Status, Resource, InstrumentationScope | None,
]  # fmt: skip


def ended(span: ReadableSpan) -> EndedSpan:
    """What there is to encode of a span that has ended. Raises TypeError for one without a context."""
    # The SDK's own fields, and SpanContext as the tuple that it is: through the properties each costs a Python call.
    trace_id, span_id, _, flags, state, _ = span._context  # type: ignore[misc]
    attributes: Any = span._attributes
    events: Any = span._events
    links: Any = span._links
    try:
        # The SDK's containers lock and copy for each look; what they hold of an ended span changes no more.
        attributes, dropped_attributes = attributes._dict, attributes.dropped
        if not events._dq:
            events = None
        if not links._dq:
            links = None
    except AttributeError:
        # A span that was not made by a tracer.
        dropped_attributes = span.dropped_attributes
        attributes, events, links = getattr(attributes, "_dict", attributes), events or None, links or None
    return (
        trace_id, span_id, flags, None if state is DEFAULT_TRACE_STATE else state, span._parent,
        span._name, span._kind, span._start_time or 0, span._end_time or 0,
        attributes, dropped_attributes,
        events, links,
        span._status, span._resource, span._instrumentation_scope,
    )  # fmt: skip
