import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import MS, closed, order_spans, span
from tests.tracecore.strategies import spans_of_a_trace
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ServiceLink
from tracecore.dependency_links import merged_links
from tracecore.otlp import decode_spans
from tracecore.span import Span, SpanKind
from tracecore.zipkin_json import otlp_of_zipkin_json

CASES = json.loads((Path(__file__).parent / "fixtures" / "zipkin_dependency_links.json").read_text())


def links_of(spans: list[Span]) -> list[tuple[str, str, str, int]]:
    return [(link.caller, link.callee, link.callee_type, link.calls) for link in closed(spans).links]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_zipkins_case(case: dict[str, Any]) -> None:
    groups = []
    for trace in case["traces"]:
        spans, rejected = decode_spans(otlp_of_zipkin_json(json.dumps(trace).encode()))
        assert not rejected
        closed = closed_trace(
            spans[0].trace_id, spans, revision=1, reason="complete", first_arrival_ns=0, last_arrival_ns=0
        )
        groups.append(closed.links)
    assert sorted((link.caller, link.callee, link.calls, link.errors) for link in merged_links(groups)) == sorted(
        (link["parent"], link["child"], link["callCount"], link["errorCount"]) for link in case["expected"]
    )


def test_a_shops_request_links_services_database_and_broker() -> None:
    assert closed(order_spans(failed=True)).links == (
        ServiceLink("kafka/orders", "mail", "service", 1, 0, 20 * MS, 0, 0),
        ServiceLink("orders", "kafka/orders", "messaging", 1, 0, 5 * MS, 0, 0),
        ServiceLink("orders", "postgresql/shop", "database", 1, 1, 30 * MS, 0, 0),
        ServiceLink("web", "orders", "service", 1, 1, 80 * MS, 20 * MS, 1),
    )


def test_client_with_only_its_own_internal_spans_below_still_names_its_peer() -> None:
    client = span(service="web", kind=SpanKind.CLIENT, attributes={"server.address": "rates.example"})
    dns = span("resolve", parent=client, service="web")
    assert links_of([client, dns]) == [("web", "rates.example", "external", 1)]


def test_client_that_wraps_a_client_is_counted_once() -> None:
    orm = span(service="web", kind=SpanKind.CLIENT, attributes={"db.system": "mysql"})
    driver = span(parent=orm, service="web", kind=SpanKind.CLIENT, attributes={"db.system": "mysql"})
    assert links_of([orm, driver]) == [("web", "mysql", "database", 1)]


def test_a_framework_within_a_framework_is_no_call() -> None:
    outer = span(service="web", kind=SpanKind.SERVER)
    inner = span(parent=outer, service="web", kind=SpanKind.SERVER)
    assert links_of([outer, inner]) == []


def test_service_without_a_client_span_is_linked_over_its_internal_spans() -> None:
    outer = span(service="web", kind=SpanKind.SERVER)
    internal = span(parent=outer, service="web")
    inner = span(parent=internal, service="app", kind=SpanKind.SERVER)
    assert links_of([outer, internal, inner]) == [("web", "app", "service", 1)]


def test_peer_named_as_a_service_of_the_trace_is_that_service() -> None:
    root = span(service="web", kind=SpanKind.SERVER)
    answered = span(parent=root, service="web", kind=SpanKind.CLIENT)
    server = span(parent=answered, service="app", kind=SpanKind.SERVER)
    timed_out = span(parent=root, service="web", kind=SpanKind.CLIENT, attributes={"server.address": "app"})
    assert links_of([root, answered, server, timed_out]) == [("web", "app", "service", 2)]


def test_polling_a_broker_is_a_call_from_the_broker() -> None:
    poll = span(
        service="mail",
        kind=SpanKind.CLIENT,
        attributes={
            "messaging.system": "kafka",
            "messaging.destination.name": "orders",
            "messaging.operation.type": "receive",
        },
    )
    assert links_of([poll]) == [("kafka/orders", "mail", "service", 1)]


def test_whatever_a_producer_names_is_a_broker() -> None:
    assert links_of([span(service="web", kind=SpanKind.PRODUCER, attributes={"peer.service": "events"})]) == [
        ("web", "events", "messaging", 1)
    ]


def test_consumer_that_names_no_broker_has_that_of_the_producer_it_links_to() -> None:
    root = span(service="web", kind=SpanKind.SERVER)
    producer = span(parent=root, service="web", kind=SpanKind.PRODUCER, attributes={"messaging.system": "rabbitmq"})
    consumer = span(parent=root, service="mail", kind=SpanKind.CONSUMER, links=[producer])
    assert links_of([root, producer, consumer]) == [
        ("rabbitmq", "mail", "service", 1),
        ("web", "rabbitmq", "messaging", 1),
    ]


def test_service_without_a_name_is_named_by_nobody_but_its_neighbours() -> None:
    outer = span(service="web", kind=SpanKind.SERVER)
    unnamed = span(parent=outer, service="", kind=SpanKind.CLIENT, attributes={"peer.service": "app"})
    assert links_of([outer, unnamed]) == [("web", "app", "service", 1)]


def test_link_over_a_gap_in_the_tree_is_not_guessed() -> None:
    root = span(service="web", kind=SpanKind.SERVER)
    orphan = span(parent=0x99, service="app", kind=SpanKind.SERVER)
    assert links_of([root, orphan]) == []


link_groups = st.lists(
    st.lists(
        st.builds(
            ServiceLink,
            st.sampled_from("ab"),
            st.sampled_from("bc"),
            st.sampled_from(["service", "database"]),
            *[st.integers(0, 9)] * 5,
        )
    ),
    max_size=5,
)


@given(link_groups, st.randoms(use_true_random=False))
def test_merging_links_is_associative_and_commutative(groups: list[list[ServiceLink]], random: Any) -> None:
    whole = merged_links(groups)
    cut = len(groups) // 2
    assert merged_links([merged_links(groups[:cut]), merged_links(groups[cut:])]) == whole
    random.shuffle(groups)
    assert merged_links(groups) == whole


@given(spans_of_a_trace())
def test_links_name_services_of_the_trace(spans: list[Span]) -> None:
    trace = closed(spans)
    assert all(link.caller in trace.services and link.callee in trace.services for link in trace.links)
    assert all(0 <= link.errors <= link.calls and link.duration_ns >= 0 for link in trace.links)
