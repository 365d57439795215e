from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import MS, T0_NS, closed, order_spans, span, span_id
from tests.tracecore.strategies import spans_of_a_trace
from tracecore import wire
from tracecore.alert import Alert, Evidence, fingerprint
from tracecore.closed_trace import ClosedTrace
from tracecore.errors import MalformedPayload
from tracecore.finding import Finding
from tracecore.span import Resource, Span
from tracecore.window import HopWindow, OperationWindow

WINDOW = OperationWindow(10, "web", "GET /", 2, 3, 5, 5000, 1000, {70: 5}, {66: 5}, "aa", "bb")
HOP = HopWindow(10, "web", "app", "GET /", 3, 5, 5000, 1000, {70: 5}, {}, "aa", "bb")
FINDING = Finding("f1", "error", "web", "GET /", 1, 2, 3.0, "errors", labels={"type": "ValueError"}, impacted=("app",))
ALERT = Alert(
    "ff", "firing", {"alertname": "Errors", "service": "web"}, {"summary": "naïve ✓"}, 1, 2, None, 3,
    Evidence(5.0, None, "errors", 2, ("aa",)),
)  # fmt: skip


@given(spans_of_a_trace())
def test_decoding_a_trace_after_encoding_is_identity(spans: list[Span]) -> None:
    trace = closed(spans)
    assert [wire.decode_trace(record) for record in wire.encode_trace(trace)] == [trace]


def with_tables(trace: ClosedTrace) -> tuple[object, ...]:
    return tuple(
        (node[:-3], node.raw, trace.resources[node.resource], trace.scopes[node.scope]) for node in trace.spans
    )


@given(st.integers(12_000, 40_000))
def test_parts_of_a_large_trace_hold_its_spans_in_order_within_the_limit(limit: int) -> None:
    root = span(id=1, duration_ms=1000)
    steps = [span(f"step {i}", id=i, parent=root, service=f"s{i % 7}", host=f"h{i}", start_ms=i) for i in range(2, 90)]
    trace = closed([root, *steps])
    parts = [wire.decode_trace(record) for record in wire.encode_trace(trace, limit)]
    assert wire.joined(parts[::-1]) == trace
    assert with_tables(wire.joined(parts[1:] or parts)) == with_tables(trace)[len(parts[0].spans) if parts[1:] else 0 :]
    assert [part.part for part in parts] == list(range(len(parts)))
    assert {part.parts for part in parts} == {len(parts)}
    assert parts[0].critical_path == trace.critical_path
    assert not any(part.critical_path for part in parts[1:])
    plain = replace(trace, critical_path=(), resources=(), scopes=(), spans=())
    bare = dict(critical_path=(), resources=(), scopes=(), spans=(), part=0, parts=1)
    assert all(replace(part, **bare) == plain for part in parts)


def test_no_part_is_larger_than_a_record_may_be() -> None:
    root = span(id=1)
    template = span("ü" * 200, parent=root, attributes={"note": "x" * 500})
    trace = closed([root, *(template._replace(span_id=span_id(i)) for i in range(2, 5_000))])
    records = wire.encode_trace(trace)
    assert len(records) > 1
    assert max(map(len, records)) <= 1_000_000


def test_a_trace_of_thousands_of_hosts_or_of_a_very_long_path_fits_into_records() -> None:
    root = span(id=1, duration_ms=20_000)
    template = span(parent=root)
    spans = [root] + [
        template._replace(
            span_id=span_id(i),
            start_ns=T0_NS + i * MS,
            end_ns=T0_NS + i * MS + MS // 2,
            resource=Resource(b"%d" % i * 100, "", "shop", f"host {i}"),
        )
        for i in range(2, 19_000)
    ]
    trace = closed(spans)
    records = wire.encode_trace(trace)
    parts = [wire.decode_trace(record) for record in records]
    assert max(map(len, records)) <= 1_000_000
    assert with_tables(wire.joined(parts)) == with_tables(trace)
    assert not parts[0].critical_path and "critical path has" in parts[0].warnings[0]


@pytest.mark.parametrize("window", [WINDOW, HOP])
def test_windows_come_back_as_what_they_were(window: OperationWindow | HopWindow) -> None:
    assert wire.decode_window(wire.encode_window(window)) == window


def test_findings_and_alerts_come_back_as_what_they_were() -> None:
    assert wire.decode_finding(wire.encode_finding(FINDING)) == FINDING
    assert wire.decode_alert(wire.encode_alert(ALERT)) == ALERT


@pytest.mark.parametrize("decode", [wire.decode_trace, wire.decode_window, wire.decode_finding, wire.decode_alert])
@pytest.mark.parametrize(
    "record", [b"", b"\xc1", b"{", b"o", b"h\x90", b"null", b'{"fingerprint": 5}', b'"\xff"', b"x"]
)
def test_what_is_no_record_is_malformed(decode: object, record: bytes) -> None:
    assert callable(decode)
    with pytest.raises(MalformedPayload):
        decode(record)


def test_malformed_record_names_the_field() -> None:
    broken = wire.encode_alert(ALERT).replace(b'"firing"', b'"burning"')
    with pytest.raises(MalformedPayload, match=r"\$\.status"):
        wire.decode_alert(broken)


def test_truncated_trace_is_malformed() -> None:
    record = wire.encode_trace(closed(order_spans()))[0]
    with pytest.raises(MalformedPayload):
        wire.decode_trace(record[: len(record) // 2])


def test_fingerprint_depends_on_labels_alone_in_any_order() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert fingerprint({"a": "1", "b": "2"}) != fingerprint({"a": "12", "b": ""})
    assert len(fingerprint({"service": "\ud800"})) == 16, "whatever a service calls itself"


def test_alert_tells_its_event_apart_and_reads_its_labels() -> None:
    alert = replace(ALERT, labels={**ALERT.labels, "severity": "critical"})
    assert alert.event_id == "ff-1-firing"
    assert (alert.severity, alert.service) == ("critical", "web")


@pytest.mark.parametrize("table", ["resource", "scope"])
@pytest.mark.parametrize("index", [-1, 1])
def test_a_span_that_points_outside_its_tables_is_malformed(table: str, index: int) -> None:
    trace = closed([span()])
    astray = replace(trace, spans=(trace.spans[0]._replace(**{table: index}),))
    with pytest.raises(MalformedPayload, match="a table of 1"):
        wire.decode_trace(wire.encode_trace(astray)[0])
