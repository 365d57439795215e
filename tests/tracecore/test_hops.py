from tests.tracecore.builders import MS, closed, order_spans, span
from tracecore.closed_trace import NO_GAP
from tracecore.span import SpanKind


def test_gap_is_what_the_clients_span_lasted_longer() -> None:
    gaps = {node.name: node.gap_ns for node in closed(order_spans()).spans}
    assert gaps.pop("POST /orders") == 20 * MS
    assert set(gaps.values()) == {NO_GAP}


def test_no_gap_is_told_when_the_server_outlived_its_client() -> None:
    client = span(id=1, service="web", kind=SpanKind.CLIENT, duration_ms=10)
    server = span(id=2, parent=client, service="app", kind=SpanKind.SERVER, duration_ms=30)
    assert closed([client, server]).spans[1].gap_ns == NO_GAP


def test_no_gap_is_told_when_one_clients_span_holds_several_servers() -> None:
    client = span(id=1, service="web", kind=SpanKind.CLIENT, duration_ms=100)
    tries = [
        span(id=i, parent=client, service="app", kind=SpanKind.SERVER, start_ms=i * 10, duration_ms=5) for i in (2, 3)
    ]
    assert [node.gap_ns for node in closed([client, *tries]).spans] == [NO_GAP] * 3


def test_an_orphan_has_no_client() -> None:
    root = span(id=1, service="web", kind=SpanKind.CLIENT, duration_ms=100)
    orphan = span(id=2, parent=99, service="app", kind=SpanKind.SERVER)
    assert closed([root, orphan]).spans[1].gap_ns == NO_GAP
