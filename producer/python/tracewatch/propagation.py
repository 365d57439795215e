"""Context across process boundaries: which headers are read, in which order, and which are written.

Read: W3C ``traceparent`` and ``tracestate``; else ``b3``, else ``X-B3-*``, else
``X-Trace-ID`` / ``X-Span-ID``; and ``baggage`` always. Written: W3C's three and
the ``X-`` pair.
"""

import os
from collections.abc import Callable, Sequence

from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tracewatch import headers
from tracewatch.headers import Parent

# A trace id without a span id (X-Trace-ID alone) cannot be a SpanContext: it waits here for the root span.
_NAMED_TRACE = create_key("tracewatch-named-trace")
_baggage = W3CBaggagePropagator()

_SPELLINGS = {
    "x-trace-id": "X-Trace-ID",
    "x-span-id": "X-Span-ID",
    "x-b3-traceid": "X-B3-TraceId",
    "x-b3-spanid": "X-B3-SpanId",
    "x-b3-sampled": "X-B3-Sampled",
    "x-b3-flags": "X-B3-Flags",
}

Values = Callable[[str], Sequence[str]]


class TracewatchPropagator(TextMapPropagator):
    """OpenTelemetry's interface to this module; also the entry point ``OTEL_PROPAGATORS=tracewatch``."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """``context`` with the caller's span and baggage, where the carrier has valid ones."""

        def values(name: str) -> Sequence[str]:
            # Plain dictionaries are carriers too, and they tell cases apart.
            return getter.get(carrier, name) or getter.get(carrier, _SPELLINGS.get(name, name)) or ()

        return extracted(values, Context() if context is None else context)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write the current span's context; nothing without one."""
        span = trace.get_current_span(context).get_span_context()
        if span.is_valid:
            setter.set(carrier, "traceparent", headers.traceparent(span.trace_id, span.span_id, span.trace_flags))
            if span.trace_state:
                setter.set(carrier, "tracestate", span.trace_state.to_header())
            setter.set(carrier, "X-Trace-ID", f"{span.trace_id:032x}")
            setter.set(carrier, "X-Span-ID", f"{span.span_id:016x}")
        if baggage.get_all(context):
            _baggage.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """Headers that inject may write."""
        return {"traceparent", "tracestate", "baggage", "X-Trace-ID", "X-Span-ID"}


def extracted(values: Values, context: Context) -> Context:
    """``context`` with what the headers say; ``values`` gives a lowercase name's values in order."""
    parent, tracestate = _parent_and_tracestate(values)
    if parent is not None:
        context = _with_parent(parent, tracestate, context)
    if found := values("baggage"):
        context = _baggage.extract({"baggage": ",".join(found)}, context)
    return context


def extractor(propagator: TextMapPropagator | None = None) -> Callable[[Values, Context], Context]:
    """``extracted``, or the same by another propagator: the one given, or the one OTEL_PROPAGATORS names."""
    if propagator is None and os.environ.get("OTEL_PROPAGATORS"):
        propagator = propagate.get_global_textmap()
    if propagator is None or isinstance(propagator, TracewatchPropagator):
        return extracted
    other = propagator
    return lambda values, context: other.extract(values, context, _VALUES_GETTER)


def _with_parent(parent: Parent, tracestate: trace.TraceState | None, context: Context) -> Context:
    if not parent.span_id:
        return set_value(_NAMED_TRACE, parent.trace_id, context)
    span = SpanContext(parent.trace_id, parent.span_id, True, TraceFlags(parent.flags), tracestate)
    return trace.set_span_in_context(NonRecordingSpan(span), context)


def named_trace(context: Context | None) -> int | None:
    """The trace id that the caller gave without a span id."""
    trace_id = get_value(_NAMED_TRACE, context)
    return trace_id if isinstance(trace_id, int) else None


def _parent_and_tracestate(values: Values) -> tuple[Parent | None, trace.TraceState | None]:
    found = values("traceparent")
    if found:
        # Two traceparents are none: the specification lets neither win.
        parent = headers.parse_traceparent(found[0]) if len(found) == 1 else None
        if parent is not None:
            states = values("tracestate")
            return parent, headers.parse_tracestate(states) if states else None
    for single in values("b3")[:1]:
        if (parent := headers.parse_b3_single(single)) is not None:
            return parent, None
    for trace_id, span_id in zip(values("x-b3-traceid")[:1], values("x-b3-spanid")[:1], strict=False):
        sampled, flags = values("x-b3-sampled"), values("x-b3-flags")
        parent = headers.parse_b3_multiple(
            trace_id, span_id, sampled[0] if sampled else None, flags[0] if flags else None
        )
        if parent is not None:
            return parent, None
    for trace_id in values("x-trace-id")[:1]:
        span_ids = values("x-span-id")
        return headers.parse_x_ids(trace_id, span_ids[0] if span_ids else None), None
    return None, None


class _ValuesGetter(Getter[Values]):
    def get(self, carrier: Values, key: str) -> list[str] | None:
        return list(carrier(key.lower())) or None

    def keys(self, carrier: Values) -> list[str]:
        return []


_VALUES_GETTER = _ValuesGetter()
