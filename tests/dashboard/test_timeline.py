"""A trace's tree in reading order, whatever was sent."""

from dashboard.figures.palette import LIGHT
from dashboard.figures.timeline import (
    TimelineSpan,
    compared_operations,
    in_tree_order,
    time_by_service,
    timeline_drawing,
)


def span(
    span_id: str, parent_id: str = "", start: int = 0, *, kind: int = 1, service: str = "shop", own: int = 10
) -> TimelineSpan:
    return TimelineSpan(span_id, parent_id, service, f"op {span_id}", kind, False, start, 1000, own, own, None, ())


def order(*spans: TimelineSpan) -> list[tuple[str, int]]:
    return [(each.span_id, depth) for each, depth in in_tree_order(spans)]


def test_parents_come_before_children_and_siblings_by_start() -> None:
    assert order(span("c", "a", 5), span("b", "a", 3), span("d", "b", 4), span("a")) == [
        ("a", 0),
        ("b", 1),
        ("d", 2),
        ("c", 1),
    ]


def test_a_server_span_that_shares_its_clients_id_hangs_under_it_and_carries_the_children() -> None:
    client, server = span("b", "a", 1, kind=3), span("b", "a", 2, kind=2, service="cart")
    ordered = in_tree_order([span("a"), client, server, span("c", "b", 3)])
    assert [(each.span_id, each.kind, depth) for each, depth in ordered] == [
        ("a", 1, 0),
        ("b", 3, 1),
        ("b", 2, 2),
        ("c", 1, 3),
    ]


def test_spans_of_a_cycle_and_orphans_are_all_shown_once() -> None:
    shown = order(span("a", "b"), span("b", "a"), span("c", "gone"), span("d", "d"))
    assert sorted(name for name, _ in shown) == ["a", "b", "c", "d"]


def test_a_deep_trace_needs_no_deep_stack() -> None:
    chain = [span(str(index), str(index - 1) if index else "", index) for index in range(5000)]
    assert in_tree_order(chain)[-1][1] == 4999


def test_the_drawing_has_a_value_a_span_in_every_column_and_the_critical_path_by_row() -> None:
    drawing = timeline_drawing([span("a"), span("b", "a", 400)], [("a", 0, 400), ("b", 400, 1000)], LIGHT)
    columns = ("ids", "depth", "service", "name", "kind", "start", "length", "self", "gap", "failed")
    assert {len(drawing[column]) for column in columns} == {2}
    assert drawing["duration"] == 1.4
    assert drawing["critical"] == {0: [0.0, 0.4], 1: [0.4, 1.0]}


def test_an_empty_trace_is_drawn_empty() -> None:
    assert timeline_drawing([], [], LIGHT)["ids"] == []


def test_time_is_summed_by_service_and_compared_by_operation() -> None:
    left = [span("a", own=30), span("b", "a", service="cart", own=50)]
    assert time_by_service(left) == [("cart", 1, 50, 50), ("shop", 1, 30, 30)]
    right = [span("a", own=100)]
    assert compared_operations(left, right) == [
        ("shop", "op a", 1, 30, 1, 100),
        ("cart", "op b", 1, 50, 0, 0),
    ]
