from hypothesis import given

from tests.tracecore.builders import MS, closed, span
from tests.tracecore.strategies import well_timed_trace
from tracecore.self_time import self_times
from tracecore.span import Span
from tracecore.timeline import timeline_as_sent
from tracecore.tree import trace_tree


def test_overlapping_async_children_are_covered_once() -> None:
    root = span(id=1, duration_ms=100)
    children = [
        span(id=2, parent=root, start_ms=10, duration_ms=40),
        span(id=3, parent=root, start_ms=20, duration_ms=10),
        span(id=4, parent=root, start_ms=40, duration_ms=30),
    ]
    assert closed([root, *children]).spans[0].self_time_ns == 40 * MS


def test_child_counts_only_as_far_as_it_runs_within_its_parent() -> None:
    root = span(id=1, start_ms=10, duration_ms=10)
    outlives = span(id=2, parent=root, start_ms=15, duration_ms=50)
    assert closed([root, outlives]).spans[0].self_time_ns == 5 * MS
    later = span(id=3, parent=root, start_ms=40, duration_ms=5)
    assert closed([root, later]).spans[0].self_time_ns == 10 * MS
    assert closed([root, outlives, later]).spans[0].self_time_ns == 5 * MS


@given(well_timed_trace())
def test_self_time_is_the_count_of_moments_without_a_running_child(spans: list[Span]) -> None:
    tree = trace_tree(spans)
    for i, taken_ns in enumerate(self_times(tree, timeline_as_sent(tree))):
        node, children = tree.spans[i], [tree.spans[child] for child in tree.children[i]]
        assert taken_ns == sum(
            not any(child.start_ns <= moment < child.end_ns for child in children)
            for moment in range(node.start_ns, node.end_ns)
        )
