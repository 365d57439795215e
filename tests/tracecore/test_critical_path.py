import time

from hypothesis import given

from tests.tracecore.builders import MS, T0_NS, closed, span, span_id
from tests.tracecore.strategies import spans_of_a_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.span import Span


def path_of(trace: ClosedTrace) -> list[tuple[int, int, int]]:
    return [
        (int.from_bytes(part.span_id), (part.start_ns - T0_NS) // MS, (part.end_ns - T0_NS) // MS)
        for part in trace.critical_path
    ]


@given(spans_of_a_trace())
def test_parts_touch_and_sum_to_the_roots_duration(spans: list[Span]) -> None:
    trace = closed(spans)
    root = trace.spans[0]
    started_ns, ended_ns = (root.start_ns or root.end_ns), (root.end_ns or root.start_ns)
    assert sum(part.end_ns - part.start_ns for part in trace.critical_path) == max(ended_ns - started_ns, 0)
    assert all(a.end_ns == b.start_ns for a, b in zip(trace.critical_path, trace.critical_path[1:], strict=False))
    assert all(part.end_ns > part.start_ns for part in trace.critical_path)


@given(spans_of_a_trace())
def test_a_spans_share_is_within_its_self_time(spans: list[Span]) -> None:
    trace = closed(spans)
    assert sum(node.critical_path_ns for node in trace.spans) == sum(
        part.end_ns - part.start_ns for part in trace.critical_path
    )
    assert all(0 <= node.critical_path_ns <= node.self_time_ns for node in trace.spans)


def test_path_follows_the_child_that_ended_last() -> None:
    root = span(id=1, duration_ms=100)
    first = span(id=2, parent=root, start_ms=10, duration_ms=20)
    beside = span(id=3, parent=root, start_ms=40, duration_ms=20)
    last = span(id=4, parent=root, start_ms=35, duration_ms=55)
    assert path_of(closed([root, first, beside, last])) == [
        (1, 0, 10), (2, 10, 30), (1, 30, 35), (4, 35, 90), (1, 90, 100),
    ]  # fmt: skip


def test_child_that_ran_beside_a_later_one_is_followed_up_to_its_start() -> None:
    root = span(id=1, duration_ms=100)
    long = span(id=2, parent=root, start_ms=0, duration_ms=90)
    last = span(id=3, parent=root, start_ms=80, duration_ms=20)
    assert path_of(closed([root, long, last])) == [(2, 0, 80), (3, 80, 100)]


def test_what_outlives_the_root_is_not_what_the_root_waited_for() -> None:
    root = span(id=1, duration_ms=50)
    fire_and_forget = span(id=2, parent=root, start_ms=60, duration_ms=100)
    overlapping = span(id=3, parent=root, start_ms=40, duration_ms=100)
    assert path_of(closed([root, fire_and_forget])) == [(1, 0, 50)]
    assert path_of(closed([root, overlapping])) == [(1, 0, 40), (3, 40, 50)]


def test_root_without_a_duration_has_no_path() -> None:
    assert closed([span(id=1, duration_ms=0)]).critical_path == ()


def test_twenty_thousand_siblings_take_seconds() -> None:
    root = span(id=1, duration_ms=20_000)
    template = span(parent=root, duration_ms=3)
    spans = [root] + [
        template._replace(span_id=span_id(i), start_ns=T0_NS + i * MS, end_ns=T0_NS + (i + 3) * MS)
        for i in range(2, 20_001)
    ]
    began = time.process_time()
    closed(spans)
    assert time.process_time() - began < 5, "not quadratic"
