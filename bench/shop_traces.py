"""Traces for the benches of the history: eight services, ten attributes a span, an error in a hundred."""

import random
from dataclasses import replace

from tests.sink.builders import NOON_NS, SpanSpec, spans_of
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace

SERVICES = ("frontend", "cart", "checkout", "payment", "inventory", "shipping", "currency", "recommend")
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "python-requests/2.32.3", "okhttp/4.12.0")
QUERY_TEXT = "SELECT id, total_cents, status FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT 50"


def realistic_trace(number: int, spans: int, span_attributes: int = 10) -> ClosedTrace:
    """A trace of eight services with about ten attributes a span, one in a hundred spans failing."""
    pick = random.Random(number)
    start_ns = NOON_NS + number * 20_000_000
    specs = [SpanSpec(1, service=SERVICES[0], name="GET /", duration_ms=pick.lognormvariate(4.6, 0.8))]
    for span_id in range(2, spans + 1):
        parent = pick.choice(specs[-5:])
        is_client = parent.kind == 2
        service = parent.service if is_client else pick.choice(SERVICES)
        route = f"/api/v1/{service}/{pick.choice(('items', 'items/{id}', 'list', 'submit'))}"
        start_ms = parent.start_ms + pick.random() * parent.duration_ms * 0.5
        common = (
            ("http.request.method", "GET"),
            ("http.response.status_code", pick.choice((200, 200, 200, 201, 404))),
            ("server.address", f"{service}.prod.svc.cluster.local"),
            ("server.port", 8080),
            ("user.id", pick.randrange(10_000)),
        )
        more = (
            ("url.path", route.replace("{id}", str(pick.randrange(100_000)))),
            ("http.route", route),
            ("user_agent.original", pick.choice(AGENTS)),
            ("network.protocol.version", "1.1"),
            ("db.query.text" if is_client else "client.address", QUERY_TEXT if is_client else f"10.0.{span_id}.7"),
        )
        specs.append(
            SpanSpec(
                span_id,
                parent.span_id,
                service=service,
                name="GET" if is_client else f"GET {route}",
                kind=3 if is_client else 2,
                start_ms=start_ms,
                duration_ms=max(0.05, (parent.start_ms + parent.duration_ms - start_ms) * pick.random() * 0.9),
                error="TimeoutError" if pick.random() < 0.01 else "",
                attributes=(*common, *more)[:span_attributes],
            )
        )
    built = spans_of(pick.randbytes(16), specs, start_ns)
    arrived_ns = start_ns + 2_000_000_000
    return closed_trace(
        built[0].trace_id, built, revision=1, reason="complete", first_arrival_ns=arrived_ns, last_arrival_ns=arrived_ns
    )


def shifted(trace: ClosedTrace, number: int, by_ns: int) -> ClosedTrace:
    """The same trace at another time and under another id; its spans take a little longer or shorter."""
    pick = random.Random(number)
    spans = tuple(
        span._replace(
            start_ns=span.start_ns + by_ns, end_ns=span.end_ns + by_ns + pick.randrange(span.end_ns - span.start_ns)
        )
        for span in trace.spans
    )
    return replace(
        trace,
        trace_id=pick.randbytes(16),
        spans=spans,
        start_ns=trace.start_ns + by_ns,
        end_ns=trace.end_ns + by_ns,
        first_arrival_ns=trace.first_arrival_ns + by_ns,
        last_arrival_ns=trace.last_arrival_ns + by_ns,
    )
