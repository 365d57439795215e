from tests.tracecore.builders import closed, order_spans, span, span_id
from tracecore.span import Span


def origin_of(spans: list[Span]) -> int:
    return int.from_bytes(closed(spans).error_origin)


def test_failed_query_is_to_blame_and_not_its_callers() -> None:
    trace = closed(order_spans(failed=True))
    assert trace.error_origin == span_id(4)
    assert trace.error_count == 4


def test_trace_without_errors_has_no_origin() -> None:
    assert closed(order_spans()).error_origin == b""


def test_of_two_failed_calls_the_first_is_the_origin() -> None:
    root = span(id=1, duration_ms=100, error=True)
    second = span(id=2, parent=root, start_ms=50, duration_ms=10, error=True)
    first = span(id=3, parent=root, start_ms=10, duration_ms=10, error=True)
    assert origin_of([root, second, first]) == 3


def test_spans_between_that_did_not_fail_are_passed_through() -> None:
    root = span(id=1, duration_ms=100, error=True)
    middleware = span(id=2, parent=root, duration_ms=90)
    query = span(id=3, parent=middleware, start_ms=20, duration_ms=10, error=True)
    assert origin_of([root, middleware, query]) == 3


def test_an_error_that_was_handled_is_still_the_only_one() -> None:
    root = span(id=1, duration_ms=100)
    tried = span(id=2, parent=root, start_ms=10, duration_ms=10, error=True)
    assert origin_of([root, tried]) == 2
