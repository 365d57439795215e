from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import MS, T0_NS, closed, order_spans, span, span_id, trace_id
from tests.tracecore.strategies import spans_of_a_trace
from tracecore import wire
from tracecore.analysis import closed_trace
from tracecore.span import MAX_COUNT_MILLI, Span, identity


@given(spans_of_a_trace(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_one_trace_byte_for_byte(spans: list[Span], random: Any) -> None:
    records = wire.encode_trace(closed(spans))
    random.shuffle(spans)
    assert wire.encode_trace(closed(spans)) == records


@given(spans_of_a_trace())
def test_every_span_is_in_the_trace_exactly_once(spans: list[Span]) -> None:
    trace = closed(spans)
    assert trace.span_count == len(trace.spans) == len({identity(span) for span in spans})
    assert trace.span_count + trace.duplicate_count == len(spans)
    raws = {span.raw for span in spans}
    assert all(node.raw in raws for node in trace.spans)


def test_a_shops_request_is_understood() -> None:
    trace = closed(order_spans(trace=7, failed=True), first_arrival_ns=5, last_arrival_ns=6)
    assert trace.trace_id == trace_id(7)
    assert (trace.root_service, trace.root_name) == ("web", "GET /")
    assert (trace.start_ns, trace.duration_ns) == (T0_NS, 100 * MS)
    assert trace.services == ("mail", "orders", "web")
    assert (trace.span_count, trace.error_count) == (6, 4)
    assert trace.is_complete and not trace.warnings
    assert [node.depth for node in trace.spans] == [0, 1, 2, 3, 3, 4]
    assert [node.self_time_ns // MS for node in trace.spans] == [20, 20, 25, 30, 5, 20]
    assert [node.critical_path_ns // MS for node in trace.spans] == [20, 20, 25, 30, 5, 0]
    assert [trace.resources[node.resource].service for node in trace.spans] == [node.service for node in trace.spans]
    assert len(trace.resources) == 3 and len(trace.scopes) == 1


def test_trace_without_its_root_says_what_is_missing() -> None:
    trace = closed(order_spans()[1:], reason="idle", warnings=["shed"])
    assert trace.missing_root and trace.missing_parents == 1 and not trace.is_complete
    assert trace.root_service == "web" and trace.root_name == "POST"
    assert trace.warnings == ("1 parents are missing", "shed", "the root is missing")


def test_late_span_completes_the_next_revision() -> None:
    spans = order_spans()
    without_server = [*spans[:2], *spans[3:]]
    first = closed(without_server)
    assert first.missing_parents == 1 and not first.missing_root
    second = closed([*without_server, spans[2]], revision=2, reason="late")
    assert second.is_complete and second.revision == 2 and second.reason == "late"
    assert [node[:-3] for node in second.spans] == [node[:-3] for node in closed(spans).spans]


def test_head_sampled_trace_counts_for_as_many() -> None:
    assert closed([span(trace_state="ot=th:c")]).count_milli == 4000


def test_trace_that_claims_to_stand_for_more_than_can_be_counted_is_published_all_the_same() -> None:
    trace = closed([span(trace_state="ot=th:ffffffffffffff")])
    assert wire.decode_trace(*wire.encode_trace(trace)).count_milli == MAX_COUNT_MILLI


def test_duplicates_are_counted_beside_those_dropped_before() -> None:
    root = span(id=1)
    trace = closed_trace(
        root.trace_id, [root, root], revision=1, reason="complete", first_arrival_ns=0, last_arrival_ns=0,
        duplicate_count=3, replay_id="again",
    )  # fmt: skip
    assert (trace.span_count, trace.duplicate_count, trace.replay_id) == (1, 4, "again")


def test_no_spans_make_no_trace() -> None:
    with pytest.raises(ValueError, match="has no spans"):
        closed_trace(trace_id(1), [], revision=1, reason="idle", first_arrival_ns=0, last_arrival_ns=0)


def test_twenty_thousand_spans_with_every_fault_are_one_trace() -> None:
    random = Random(5)
    template = span(id=1, service="web")
    spans = [
        template._replace(
            span_id=span_id(i),
            parent_span_id=span_id(random.randrange(1, 21_000)),
            kind=random.randrange(6),
            start_ns=T0_NS + random.randrange(10**9),
            end_ns=T0_NS + random.randrange(10**9),
        )
        for i in range(1, 20_001)
    ]
    trace = closed(spans)
    assert trace.span_count == 20_000 and trace.missing_parents > 100
    records = wire.encode_trace(trace)
    assert len(records) > 1 and all(len(record) <= 1_000_000 for record in records)
