from tests.tracecore.builders import MS, T0_NS, closed, span
from tracecore.timeline import timeline_as_sent
from tracecore.tree import trace_tree


def test_span_that_ends_before_it_starts_lasts_no_time_and_says_so() -> None:
    root = span(id=1, duration_ms=10)
    backwards = span(id=2, parent=root, start_ms=4, duration_ms=-3)
    trace = closed([root, backwards])
    assert trace.spans[1].end_ns == T0_NS + 1 * MS, "as sent"
    assert trace.spans[1].self_time_ns == 0
    assert trace.spans[1].warnings == ("ends 3000000 ns before it starts",)
    assert trace.duration_ns == 10 * MS


def test_missing_times_are_told_and_do_not_stretch_the_trace() -> None:
    root = span(id=1, duration_ms=10)
    no_start = span(id=2, parent=root)._replace(start_ns=0)
    no_end = span(id=3, parent=root, start_ms=2)._replace(end_ns=0)
    none = span(id=4, parent=root)._replace(start_ns=0, end_ns=0)
    trace = closed([root, no_start, no_end, none])
    assert (trace.start_ns, trace.end_ns) == (T0_NS, T0_NS + 10 * MS)
    assert sorted(node.warnings[0] for node in trace.spans[1:]) == ["has no end time"] + ["has no start time"] * 2


def test_trace_without_any_time_begins_and_ends_at_zero() -> None:
    tree = trace_tree([span(id=1)._replace(start_ns=0, end_ns=0)])
    assert timeline_as_sent(tree).bounds() == (0, 0)
