"""The service graph stands where a person can read it, and stays there."""

import random

from hypothesis import given
from hypothesis import strategies as st

from dashboard.figures.graph_layout import layered_layout

NAMES = st.sampled_from([f"service-{index}" for index in range(14)])
EDGES = st.lists(st.tuples(NAMES, NAMES), max_size=40)


def test_a_caller_stands_left_of_its_callee() -> None:
    layout = layered_layout({"a", "b", "c"}, {("a", "b"), ("b", "c"), ("a", "c")})
    assert [layout.nodes[name][0] for name in "abc"] == [0, 1, 2]
    assert len(layout.routes[("a", "c")]) == 3, "the long edge has a way-point in the layer between"


def test_a_cycle_is_drawn_with_one_edge_going_back() -> None:
    layout = layered_layout({"a", "b", "c"}, {("a", "b"), ("b", "c"), ("c", "a")})
    back = [edge for edge, route in layout.routes.items() if route[-1][0] < route[0][0]]
    assert len(back) == 1


def test_nothing_to_draw_is_an_empty_layout() -> None:
    assert layered_layout([], []).nodes == {}
    assert layered_layout(["alone"], [("alone", "alone"), ("alone", "unknown")]).routes == {}


@given(EDGES, st.randoms(use_true_random=False))
def test_the_same_graph_in_any_order_is_drawn_the_same_and_no_two_nodes_touch(
    edges: list[tuple[str, str]], dice: random.Random
) -> None:
    nodes = {name for edge in edges for name in edge}
    layout = layered_layout(nodes, edges)
    shuffled = list(edges)
    dice.shuffle(shuffled)
    assert layered_layout(sorted(nodes, reverse=True), shuffled) == layout
    assert set(layout.routes) == {(tail, head) for tail, head in edges if tail != head}
    for edge, route in layout.routes.items():
        assert (route[0], route[-1]) == (layout.nodes[edge[0]], layout.nodes[edge[1]])
    for name, (x, y) in layout.nodes.items():
        assert 0 <= x < layout.width
        assert 0 <= y < layout.height
        for other, (other_x, other_y) in layout.nodes.items():
            assert name == other or x != other_x or abs(y - other_y) > 0.999


def test_a_hundred_services_all_find_a_place() -> None:
    dice = random.Random(7)
    nodes = [f"service-{index:03}" for index in range(100)]
    edges = [(nodes[dice.randrange(index)], nodes[index]) for index in range(1, 100)]
    edges += [(dice.choice(nodes), dice.choice(nodes)) for _ in range(80)]
    layout = layered_layout(nodes, edges)
    assert len(layout.nodes) == 100
