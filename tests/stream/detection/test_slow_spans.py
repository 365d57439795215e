"""Slow spans in closed traces: a gateway that calls two services."""

from dataclasses import replace

from stream.detection.slow_spans import SlowSpans
from tests.stream.detection.builders import span
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.span import Span, SpanKind

MS = 1_000_000


def trace(
    number: int, *, own_ms: float = 5, cart_gap_ms: float = 2, pay_gap_ms: float = 2, gateway_ms: float = 1
) -> ClosedTrace:
    """The gateway calls cart and payment, one after the other; both work 5 ms, cart ``own_ms``."""
    spans: list[Span] = []
    at_ns = 10**18 + number * 10**9
    for index, (service, work_ms, gap_ms) in enumerate((("cart", own_ms, cart_gap_ms), ("payment", 5.0, pay_gap_ms))):
        call_ns, work_ns = round((work_ms + gap_ms) * MS), round(work_ms * MS)
        call = span("gateway", service, trace=number, span_id=10 + index, parent=1, end_ns=at_ns + call_ns,
                    duration_ns=call_ns)  # fmt: skip
        spans.append(call._replace(kind=SpanKind.CLIENT))
        middle_ns = at_ns + (call_ns - work_ns) // 2
        spans.append(
            span(service, "op", trace=number, span_id=20 + index, parent=10 + index, end_ns=middle_ns + work_ns,
                 duration_ns=work_ns)
        )  # fmt: skip
        at_ns += call_ns
    end_ns = at_ns + round(gateway_ms * MS)
    total_ns = end_ns - 10**18 - number * 10**9
    spans.append(span("gateway", "root", trace=number, span_id=1, end_ns=end_ns, duration_ns=total_ns))
    trace_id = number.to_bytes(16, "big")
    return closed_trace(trace_id, spans, revision=1, reason="complete", first_arrival_ns=0, last_arrival_ns=at_ns)


def judged(hook: SlowSpans, first: int, count: int, **times: float) -> list[Finding]:
    return [finding for n in range(first, first + count) for finding in hook.on_trace(trace(n, **times))]


def test_slow_service_is_blamed_and_not_its_caller_and_soon_most_traces_are_slow() -> None:
    hook = SlowSpans()
    assert judged(hook, 1, 150) == []
    found = judged(hook, 200, 10, own_ms=500)
    assert {(finding.service, finding.labels["part"]) for finding in found} == {("cart", "self_time")}
    assert [finding.labels["extent"] for finding in found][-3:] == ["most"] * 3
    assert {(finding.path, finding.impacted) for finding in found} == {(("gateway", "cart"), ("gateway",))}


def test_slow_network_to_one_callee_is_that_callees_gap() -> None:
    hook = SlowSpans()
    judged(hook, 1, 150)
    found = judged(hook, 200, 10, pay_gap_ms=300)
    assert (found[-1].service, found[-1].labels) == ("payment", {"part": "gap", "extent": "most"})


def test_caller_whose_calls_are_all_slow_makes_no_callee_a_suspect() -> None:
    hook = SlowSpans()
    judged(hook, 1, 150)
    found = judged(hook, 200, 20, pay_gap_ms=300, cart_gap_ms=300)
    assert {finding.labels["extent"] for finding in found} == {"some"}


def test_caller_that_is_slow_itself_makes_no_callee_a_suspect() -> None:
    hook = SlowSpans()
    judged(hook, 1, 150)
    found = judged(hook, 200, 20, pay_gap_ms=300, gateway_ms=90)
    assert {finding.labels["extent"] for finding in found} == {"some"}


def test_further_revision_and_a_trace_with_holes_are_not_judged_again() -> None:
    hook = SlowSpans()
    judged(hook, 1, 150)
    slow = trace(200, own_ms=500)
    assert hook.on_trace(slow)

    assert hook.on_trace(replace(slow, revision=2)) == []
    assert hook.on_trace(replace(slow, missing_parents=1)) == []
