import json
from pathlib import Path
from typing import Any

import pytest

from tests.tracecore.builders import MS, closed, span
from tracecore.skew import corrected_for_skew
from tracecore.span import Resource, Scope, Span, SpanKind
from tracecore.timeline import timeline_as_sent
from tracecore.tree import trace_tree

CASES = json.loads((Path(__file__).parent / "fixtures" / "jaeger_clock_skew.json").read_text())
#: Jaeger's cases count from zero, which OTLP takes for "no time".
BASE_MS = 1000


def jaeger_span(case: dict[str, Any]) -> Span:
    parent = bytes.fromhex(case["parent"])
    start_ns = (BASE_MS + case["start_ms"]) * MS
    return Span(
        bytes(15) + b"\1", bytes.fromhex(case["id"]), parent if any(parent) else b"", "", 0, start_ns,
        start_ns + case["duration_ms"] * MS, 0, 1000, Resource(case["host"].encode(), "", "service", case["host"]),
        Scope(b"", ""), b"",
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case["description"] for case in CASES])
def test_jaegers_case(case: dict[str, Any]) -> None:
    tree = trace_tree([jaeger_span(one) for one in case["spans"]])
    timeline = corrected_for_skew(tree, timeline_as_sent(tree), case["max_adjust_ms"] * MS)
    expected = {bytes.fromhex(one["id"]): one for one in case["spans"]}
    for i, span_id in enumerate(tree.span_ids):
        one = expected[span_id]
        assert timeline.starts[i] == (BASE_MS + one["adjusted_ms"]) * MS
        assert timeline.ends[i] - timeline.starts[i] == one["duration_ms"] * MS
        assert [at_ms + timeline.skews[i] // MS for at_ms in one["events"]] == one["adjusted_events"]
    if "delta" in case["warning"]:
        delta = case["warning"].rsplit(" ", 1)[-1].removesuffix("ms")
        assert any(f"clock skew of {delta} ms is not corrected" in text for text in tree.warnings[1])
    elif "duplicate" in case["warning"]:
        # Ours counts a duplicate and goes on with the other, where Jaeger gives the whole trace up.
        assert tree.duplicates == 1
    elif case["warning"]:
        assert any("missing" in text or "stands for the root" in text for text in tree.warnings[0])
    else:
        assert not tree.warnings


def test_server_ten_minutes_ahead_is_seen_inside_its_clients_span() -> None:
    client = span(id=1, service="web", kind=SpanKind.CLIENT, duration_ms=100)
    server = span(id=2, parent=client, service="app", kind=SpanKind.SERVER, start_ms=600_000, duration_ms=60)
    below = span(id=3, parent=server, service="app", start_ms=600_010, duration_ms=10)
    trace = closed([below, server, client])
    assert [node.skew_ns for node in trace.spans] == [0, 20 * MS - 600_000 * MS, 20 * MS - 600_000 * MS]
    assert trace.spans[1].start_ns == server.start_ns, "what was sent is not touched"
    assert trace.duration_ns == 100 * MS
    assert trace.spans[1].gap_ns == 40 * MS


def test_consumer_may_run_long_after_its_producer_but_not_before() -> None:
    producer = span(id=1, service="web", kind=SpanKind.PRODUCER, start_ms=10, duration_ms=5)
    late = span(id=2, parent=producer, service="mail", kind=SpanKind.CONSUMER, start_ms=900, duration_ms=1)
    early = span(id=3, parent=producer, service="log", kind=SpanKind.CONSUMER, start_ms=4, duration_ms=1)
    assert {node.service: node.skew_ns for node in closed([producer, late, early]).spans} == {
        "web": 0,
        "mail": 0,
        "log": 6 * MS,
    }


def test_orphan_is_not_compared_with_the_root_it_hangs_under() -> None:
    root = span(id=1, service="web")
    orphan = span(id=2, parent=99, service="app", start_ms=500)
    assert [node.skew_ns for node in closed([root, orphan]).spans] == [0, 0]


def test_parent_without_any_time_moves_no_child() -> None:
    client = span(id=1, service="web", kind=SpanKind.CLIENT)._replace(start_ns=0, end_ns=0)
    server = span(id=2, parent=client, service="app", kind=SpanKind.SERVER)
    trace = closed([client, server])
    assert trace.spans[1].skew_ns == 0 and not trace.spans[1].warnings
