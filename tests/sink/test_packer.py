"""Compiled rows are the reference's rows, or none, whatever the bytes."""

import random
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from sink.contributions import EdgeKey, EdgeSums, Sums
from sink.detail import ERROR_TYPE_ATTRIBUTES
from sink.packed import PackedBatch, is_whole, span_count_in, trace_id_in, unmarked
from sink.rows import DAY_NS, RowEncoder, TraceRows, digest_of
from tests.sink.builders import NOON_NS, SpanSpec, checkout_trace, set_attributes, spans_of, trace_of
from tracecore.closed_trace import ClosedTrace
from tracecore.errors import MalformedPayload
from tracecore.redaction import BUILT_IN, Redaction
from tracecore.wire import decode_trace, encode_trace

packer_module = pytest.importorskip("sink.packer")
TRACE_ID = bytes(range(16))

texts = st.text(max_size=40) | st.sampled_from(["", "a\0b", '"\\/\b\f\n\r\t\x01\x7f', "ü\u2028\U0001f600", "x" * 300])
values = (
    texts
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats()
    | st.binary(max_size=20)
    | st.lists(st.text(max_size=5), max_size=3)
    | st.sampled_from(["4111 1111 1111 1111", 4111111111111111, "2026-11-22 12:00:00.123456"])
)
error_types = st.sampled_from(ERROR_TYPE_ATTRIBUTES)
keys = st.text(max_size=140) | st.sampled_from(["http.route", "password", "http.request.header.cookie"])
span_specs = st.builds(
    SpanSpec,
    span_id=st.just(2),
    parent_id=st.just(1),
    service=texts,
    name=texts | st.just("card 4111111111111111"),
    kind=st.integers(0, 5),
    error=st.sampled_from(["", "", "TimeoutError"]),
    message=texts,
    attributes=st.dictionaries(keys, values, max_size=6).map(lambda found: tuple(found.items())),
)


def reference_of(value: bytes, redaction: Redaction = BUILT_IN) -> TraceRows:
    return RowEncoder(redaction).rows_of(decode_trace(value), digest_of([unmarked(value)]))


def assert_alike(batch: PackedBatch, trace: int, rows: TraceRows) -> None:
    """What was packed is what the reference makes."""
    assert not rows.poison
    assert b"".join(batch.span_rows([trace])) == b"".join(rows.span_rows)
    assert b"".join(batch.trace_rows([trace])) == rows.trace_row
    assert batch.span_count([trace]) == len(rows.spans)
    assert list(batch.errors([trace])) == ([(rows.trace.trace_id, tuple(rows.errors))] if rows.errors else [])
    assert batch.days >= rows.days
    assert batch.edges([trace]) == edges_of([rows])


def edges_of(traces: Sequence[TraceRows]) -> dict[EdgeKey, EdgeSums]:
    sums = Sums()
    for rows in traces:
        sums.count_links(rows.trace.links, rows.start_ns, rows.trace.count_milli)
    return sums.edges


def test_rows_of_many_traces_are_the_references(packing: Any) -> None:
    values = [value for n in range(300) for value in encode_trace(trace_of(checkout_trace(n)))]
    batch = packing.pack(values)
    packed = batch.packed
    assert packed == list(range(300)), "ordinary traces are packed, those with errors, too"
    rows = [reference_of(value) for value in values]
    for trace, made in zip(packed, rows, strict=True):
        assert_alike(batch, trace, made)
    assert b"".join(batch.span_rows(packed)) == b"".join(row for made in rows for row in made.span_rows)
    assert b"".join(batch.trace_rows(packed[::2])) == b"".join(made.trace_row for made in rows[::2])
    assert batch.edges(packed) == edges_of(rows)
    assert batch.days == {day for made in rows for day in made.days}
    assert batch.span_count(packed[5:50]) == sum(len(made.spans) for made in rows[5:50])
    assert list(batch.errors(packed)) == [(made.trace.trace_id, tuple(made.errors)) for made in rows if made.errors]
    assert {use.shared_id for use in batch.shared} == {
        i for made in rows for i in (*made.resource_ids, *made.scope_ids)
    }


@given(specs=st.lists(span_specs, min_size=1, max_size=3), replay=st.sampled_from(["", "replay-1"]))
def test_whatever_spans_hold_their_rows_are_the_references(packing: Any, specs: list[SpanSpec], replay: str) -> None:
    specs = [replace(spec, span_id=2 + number) for number, spec in enumerate(specs)]
    (value,) = encode_trace(trace_of(spans_of(TRACE_ID, [SpanSpec(1), *specs]), replay_id=replay))
    batch = packing.pack([value])
    if batch.packed:
        assert_alike(batch, 0, reference_of(value))


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.route": "/cart", "n": 7, "negative": -7, "least": -(2**63), "yes": True, "no": False, "empty": ""},
        {"escaped": 'a"b\\c\n\x01', "umlaut": "ü", "wide": "\U0001f600", "long": "x" * 5000},
        {"d": 1.5, "nan": float("nan"), "list": ["a"], "bytes": b"\0"},
        {"k" * 200: 1},
    ],
)
def test_attributes_of_every_kind_are_packed(packing: Any, attributes: dict[str, Any]) -> None:
    (value,) = encode_trace(trace_of(spans_of(TRACE_ID, [SpanSpec(1, attributes=tuple(attributes.items()))])))
    batch = packing.pack([value])
    assert batch.packed == [0]
    assert_alike(batch, 0, reference_of(value))


@st.composite
def events(draw: st.DrawFn) -> SpanMessage.Event:
    event = SpanMessage.Event(
        time_unix_nano=draw(st.integers(0, 2**63) | st.just(NOON_NS)),
        name=draw(texts | st.just("card 4111111111111111")),
        dropped_attributes_count=draw(st.integers(0, 2)),
    )
    set_attributes(event.attributes, draw(st.dictionaries(keys | error_types, values, max_size=3)))
    return event


@given(
    status=st.sampled_from([0, 1, 2, 2]),
    attributes=st.lists(st.tuples(keys | error_types, values), max_size=5),
    events=st.lists(events(), max_size=3),
    message=st.just("") | texts | st.just("card 4111111111111111"),
    warnings=st.lists(texts, max_size=2).map(tuple),
)
def test_rows_of_errors_events_and_warnings_are_the_references(
    packing: Any,
    status: int,
    attributes: list[tuple[str, Any]],
    events: list[SpanMessage.Event],
    message: str,
    warnings: tuple[str, ...],
) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    first, second = trace.spans
    raw = SpanMessage.FromString(second.raw)
    for key, value in attributes:
        set_attributes(raw.attributes, {key: value})
    raw.events.extend(events)
    raw.status.message, raw.status.code = message, status
    changed = second._replace(raw=raw.SerializeToString(), status=status, warnings=warnings)
    (value,) = encode_trace(replace(trace, spans=(first, changed), error_origin=second.span_id))
    batch = packing.pack([value])
    if batch.packed:
        assert_alike(batch, 0, reference_of(value))


@pytest.mark.parametrize(
    ("attributes", "event", "error_type"),
    [
        ({"error.type": "TimeoutError", "http.response.status_code": 504}, {}, "TimeoutError"),
        ({"error.type": "", "http.response.status_code": 504}, {}, "504"),
        ({"rpc.grpc.status_code": 0}, {"exception.type": "OSError", "exception.stacktrace": "at\n1"}, "OSError"),
        ({"error.type": "ü" * 100}, {}, "ü" * 100),
        ({}, {}, "error"),
    ],
)
def test_an_error_with_its_events_is_packed_whole(
    packing: Any, attributes: dict[str, Any], event: dict[str, Any], error_type: str
) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    first, second = trace.spans
    raw = SpanMessage.FromString(second.raw)
    set_attributes(raw.attributes, attributes)
    set_attributes(raw.events.add(name="exception", time_unix_nano=NOON_NS).attributes, event)
    raw.status.message, raw.status.code = "upstream", 2
    changed = second._replace(raw=raw.SerializeToString(), status=2, warnings=("clock skew",))
    (value,) = encode_trace(replace(trace, spans=(first, changed)))
    batch = packing.pack([value])
    assert batch.packed == [0] and not batch.pieces
    assert [error.error_type for _, errors in batch.errors([0]) for error in errors] == [error_type]
    assert_alike(batch, 0, reference_of(value))


def test_odd_spans_stand_where_they_belong_among_the_rows_of_many_traces(packing: Any) -> None:
    odd = (("seconds", 1.5),)
    traces = [
        trace_of(
            spans_of(
                TRACE_ID,
                [
                    SpanSpec(1),
                    *(SpanSpec(2 + span, 1, attributes=odd if number % 3 == span else ()) for span in range(3)),
                ],
            )
        )
        if number % 2
        else trace_of(checkout_trace(number))
        for number in range(12)
    ]
    values = [value for trace in traces for value in encode_trace(trace)]
    batch = packing.pack(values)
    assert batch.packed == list(range(12)) and list(batch.pieces) == [1, 3, 5, 7, 9, 11]
    rows = [reference_of(value) for value in values]
    for chosen in (slice(None), slice(None, None, 2), slice(1, None, 2), slice(3, 8)):
        made = [row for each in rows[chosen] for row in each.span_rows]
        assert b"".join(batch.span_rows(batch.packed[chosen])) == b"".join(made)


def test_an_error_whose_bytes_are_no_text_is_left_to_the_reference(packing: Any) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1, error="TimeoutError")]))
    first, second = trace.spans
    no_state = b"\x1a\x02\xff\xff"
    (value,) = encode_trace(replace(trace, spans=(first, second._replace(raw=no_state + second.raw))))
    assert packing.pack([value]).packed == [] and reference_of(value).poison


def test_rows_stay_as_they_are_while_others_are_made(packing: Any) -> None:
    (value,) = encode_trace(trace_of(checkout_trace(1)))
    batch = packing.pack([value])
    (rows,) = batch.span_rows([0])
    made = bytes(rows)
    del batch
    kept = [packing.pack(encode_trace(trace_of(checkout_trace(2 + number)))) for number in range(5)]
    assert rows == made and len(kept) == 5


def test_a_batch_tells_the_same_while_others_are_made(packing: Any) -> None:
    (value,) = encode_trace(trace_of(checkout_trace(1)))
    batch = packing.pack([value])
    kept = [packing.pack(encode_trace(trace_of(checkout_trace(2 + number)))) for number in range(5)]
    assert_alike(batch, 0, reference_of(value))
    assert len(kept) == 5


def test_a_character_is_escaped_wherever_in_a_text_it_stands(packing: Any) -> None:
    for place in range(20):
        texts = ("x" * place + chr(code) + "y" * (19 - place) for code in range(1, 256))
        spans = [SpanSpec(2 + number, 1, attributes=(("text", text),)) for number, text in enumerate(texts)]
        (value,) = encode_trace(trace_of(spans_of(TRACE_ID, [SpanSpec(1), *spans])))
        batch = packing.pack([value])
        assert batch.packed == [0] and not batch.pieces
        assert_alike(batch, 0, reference_of(value))


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "no reason"},
        {"root_service": "x" * 700},
        {"root_name": "a\0b"},
        {"error_origin": b"12345678"},
        {"span_count": 2**40},
        {"revision": -1},
        {"first_arrival_ns": -5},
        {"services": ("a", "a\0b")},
        {"services": ()},
        {"warnings": ("odd", "ü")},
        {"critical_path": ()},
        {"sampled_by": "rule"},
        {"sampled_by": "r" * 300_000, "replay_id": "p" * 200_000},
        {"start_ns": 5},
        {"start_ns": NOON_NS - 700 * DAY_NS},
        {"end_ns": 2**63 - 1},
        {"trace_id": b"short"},
        {"count_milli": 64_000},
    ],
)
def test_whatever_the_summary_says_its_row_is_the_references(packing: Any, change: dict[str, Any]) -> None:
    trace: ClosedTrace = replace(trace_of(checkout_trace(1)), **change)
    (value,) = encode_trace(trace)
    batch = packing.pack([value])
    if batch.packed:
        assert_alike(batch, 0, reference_of(value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 70_000), ("depth", 2**31), ("self_time_ns", 2**63), ("start_ns", 5), ("warnings", ("odd",)),
        ("resource", 99), ("resource", -1), ("scope", 99), ("span_id", b"123"), ("service", "x" * 700), ("status", 1),
        ("gap_ns", -1), ("gap_ns", 0), ("parent_span_id", b""), ("end_ns", 0), ("name", "a\0b"),
    ],
)  # fmt: skip
def test_a_span_that_cannot_be_stored_is_left_to_the_reference(packing: Any, field: str, value: Any) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    (record,) = encode_trace(replace(trace, spans=(trace.spans[0], trace.spans[1]._replace(**{field: value}))))
    batch = packing.pack([record])
    if batch.packed:
        assert_alike(batch, 0, reference_of(record))


@given(data=st.data())
def test_corrupt_records_are_left_or_read_as_the_reference_reads_them(packing: Any, data: st.DataObject) -> None:
    (value,) = encode_trace(trace_of(checkout_trace(data.draw(st.integers(0, 50)))))
    corrupt = bytearray(value)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(corrupt) - 1))
        corrupt[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del corrupt[data.draw(st.integers(0, len(corrupt) - 1)) :]
    batch = packing.pack([bytes(corrupt)])
    if batch.packed:
        assert_alike(batch, 0, reference_of(bytes(corrupt)))


@given(st.binary(max_size=400))
def test_noise_is_left(packing: Any, noise: bytes) -> None:
    whole = encode_trace(trace_of(checkout_trace(1)))[0]
    batch = packing.pack([noise, whole, whole[:50] + noise])
    assert batch.packed == [1]
    assert_alike(batch, 1, reference_of(whole))


def test_a_span_that_is_twice_in_a_trace_is_left_to_the_reference(packing: Any) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    (value,) = encode_trace(replace(trace, spans=(trace.spans[0], trace.spans[0])))
    assert packing.pack([value]).packed == []


@pytest.mark.parametrize(
    "attributes",
    [{"user.password": "hidden"}, {"card": "4111 1111 1111 1111"}, {"card": 4111111111111111}, {"mine": "hidden"}],
)
def test_a_trace_with_a_secret_is_left_to_the_reference(attributes: dict[str, Any]) -> None:
    packing = packer_module.Packer(Redaction(keys=["mine"]))
    (value,) = encode_trace(trace_of(spans_of(TRACE_ID, [SpanSpec(1, attributes=tuple(attributes.items()))])))
    assert packing.pack([value]).packed == []


def test_more_resources_than_are_remembered_are_looked_up_anew(packing: Any) -> None:
    for first in range(0, 40_000, 2000):
        specs = [[SpanSpec(1, service=f"service-{n}")] for n in range(first, first + 2000)]
        values = [encode_trace(trace_of(spans_of(TRACE_ID, spec)))[0] for spec in specs]
        batch = packing.pack(values)
        assert len(batch.packed) > 500
        assert_alike(batch, batch.packed[0], reference_of(values[batch.packed[0]]))


def test_what_a_trace_consists_of_is_what_is_read() -> None:
    from sink import kernels

    assert list(kernels.TRACE_FIELDS) == [field.name for field in fields(ClosedTrace)]


def test_a_record_tells_what_a_batch_must_know() -> None:
    trace = trace_of(checkout_trace(1, spans=200))
    (value,) = encode_trace(trace)
    assert is_whole(value) and trace_id_in(value) == trace.trace_id and span_count_in(value) == 200
    assert not any(map(is_whole, encode_trace(trace, max_record_bytes=5000)))
    pick = random.Random(1)
    for _ in range(200):
        noise = value[:27] + pick.randbytes(pick.randrange(40)) + b"\xaaspan_count" + pick.randbytes(2)
        assert span_count_in(noise) >= 1
    with pytest.raises(MalformedPayload):
        decode_trace(value[:-1])


def test_which_replay_said_it_is_no_part_of_what_it_said() -> None:
    trace = trace_of(checkout_trace(1))
    (plain,), (replayed,) = encode_trace(trace), encode_trace(replace(trace, replay_id="a" * 40))
    assert unmarked(plain) == unmarked(replayed) == plain
