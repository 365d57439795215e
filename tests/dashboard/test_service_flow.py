"""The service graph's edges compared, worded and placed."""

from dashboard.figures.palette import LIGHT
from dashboard.figures.service_flow import ServiceEdge, ServiceNode, compared_edges, flow_drawing
from dashboard.queries.service_flow import reasons_text


def edge(caller: str, callee: str, *, calls: float = 100, errors: float = 0, p95_ms: float = 10) -> ServiceEdge:
    return ServiceEdge(caller, callee, "service", calls, errors, p95_ms * 1e6, p95_ms * 5e5, 1e6)


def test_new_gone_slower_faster_and_failing_calls_are_told() -> None:
    before = [edge("a", "b"), edge("a", "c"), edge("a", "d"), edge("a", "e", p95_ms=50), edge("a", "same")]
    now = [edge("a", "b", p95_ms=40), edge("a", "d", errors=9), edge("a", "e"), edge("a", "f"), edge("a", "same")]
    changes = {each.callee: each.change for each in compared_edges(now, before)}
    assert changes == {"b": "slower", "c": "gone", "d": "failing", "e": "faster", "f": "new", "same": ""}


def test_a_few_calls_are_no_evidence_of_a_change() -> None:
    assert compared_edges([edge("a", "b", calls=3, p95_ms=90)], [edge("a", "b")])[0].change == ""


def test_the_drawing_holds_every_node_and_names_what_a_person_should_see() -> None:
    drawing = flow_drawing([ServiceNode("a", health=97, rate=1.0)], [edge("a", "b", errors=50)], 60, LIGHT)
    assert [node["id"] for node in drawing["nodes"]] == ["a", "b"]
    assert drawing["nodes"][0]["grade"] == "good"
    assert drawing["edges"][0]["grade"] == "bad"
    assert drawing["edges"][0]["label"] == "50 % errors"


def test_a_hundred_services_are_drawn_compact_with_labels_only_where_it_matters() -> None:
    edges = [edge(f"s{index // 3}", f"s{index}") for index in range(1, 100)] + [edge("s1", "s99", errors=80)]
    drawing = flow_drawing([], edges, 60, LIGHT)
    assert drawing["node"]["compact"]
    assert len(drawing["nodes"]) == 100
    assert [each["label"] for each in drawing["edges"] if each["label"]] == ["80 % errors"]


def test_nodes_stand_where_they_stood_though_a_call_is_not_made_now() -> None:
    every = [edge("web", "cart"), edge("web", "ads"), edge("cart", "redis"), edge("ads", "redis")]
    usual = [(each.caller, each.callee) for each in every]
    whole = flow_drawing([], every, 60, LIGHT, usual=usual)
    fewer = flow_drawing([], [every[0], every[2]], 60, LIGHT, usual=usual)
    places = {node["id"]: (node["x"], node["y"]) for node in whole["nodes"]}
    assert {node["id"]: (node["x"], node["y"]) for node in fewer["nodes"]} == {
        name: places[name] for name in ("web", "cart", "redis")
    }
    assert [(each["caller"], each["callee"]) for each in fewer["edges"]] == [("web", "cart"), ("cart", "redis")]


def test_reasons_for_a_score_say_what_happened_and_like_ones_are_summed() -> None:
    stored = (
        '[{"reason": "errors", "points": 9, "detail": "3 of 40 requests failed"},'
        ' {"reason": "alert", "points": 10, "detail": "ErrorSpans"},'
        ' {"reason": "alert", "points": 10, "detail": "ErrorSpans"}]'
    )
    assert reasons_text(stored) == "3 of 40 requests failed (-9); alert ErrorSpans (-20)"
    assert reasons_text("[]") == ""
