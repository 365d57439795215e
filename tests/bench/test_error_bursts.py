"""What counts as a burst of failing requests, and what as named in time."""

from bench.error_bursts import Requests, delay_s
from tests.tracecore.builders import T0_NS, span
from tracecore.span import Span, SpanKind

T0_S = T0_NS / 1e9


def request(number: int, at_s: float, *, fails: bool) -> list[Span]:
    """The gateway asks checkout, which asks payment, by way of a span that never fails; payment is where it fails."""
    at_ms = at_s * 1000
    root = span("/", trace=number, service="gateway", kind=SpanKind.SERVER, start_ms=at_ms, duration_ms=9, error=fails)
    served = span("order", parent=root, service="checkout", kind=SpanKind.SERVER, start_ms=at_ms, error=fails)
    inside = span("retry", parent=served, service="checkout", start_ms=at_ms)
    failed = span("pay", parent=inside, service="payment", kind=SpanKind.SERVER, start_ms=at_ms, error=fails)
    return [failed, inside, served, root]


def requests(*calls: list[Span]) -> Requests:
    gathered = Requests()
    for spans in calls:
        gathered.add(spans)
    for spans in calls:
        gathered.add_links(spans)
    return gathered


def test_five_failures_in_a_minute_are_a_burst_of_each_service_that_began_in_the_deepest() -> None:
    found = requests(*(request(number, number * 10, fails=True) for number in range(1, 6))).bursts()
    assert {(burst.service, burst.began_in, burst.failures) for burst in found} == {
        (service, "payment", 5) for service in ("gateway", "checkout", "payment")
    }
    assert round(found[0].is_burst_s - T0_S) == 50


def test_four_failures_or_a_small_share_are_none() -> None:
    assert requests(*(request(number, number, fails=True) for number in range(1, 5))).bursts() == []
    assert requests(*(request(number, number / 2, fails=number % 6 == 0) for number in range(1, 60))).bursts() == []


def test_alert_counts_where_the_error_began_and_within_fifteen_seconds() -> None:
    burst = requests(*(request(number, number, fails=True) for number in range(1, 6))).bursts()[0]

    def alert(service: str, fired_s: float, ends_s: float | None = None, kind: str = "error") -> dict[str, object]:
        return {"service": service, "kind": kind, "fired_at": T0_S + fired_s, "ends_at": ends_s and T0_S + ends_s}

    assert round(delay_s(burst, [alert("payment", 8)]) or 0) == 3
    assert delay_s(burst, [alert("payment", -30)]) is not None, "it fires already"
    assert delay_s(burst, [alert("payment", -30, -10)]) is None, "that one was over"
    assert delay_s(burst, [alert("payment", 21)]) is None
    assert delay_s(burst, [alert("checkout", 8), alert("payment", 8, kind="error_rate")]) is None
