"""One batch, one transaction, on a real PostgreSQL."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from sink.batches import Batch, Batcher, BatchLimits, Record, batch_of
from sink.errors import Overtaken, SchemaMissing, StoreAway
from sink.letters import REDRIVE_HEADER, Letter
from sink.packed import Packing
from sink.rows import RowEncoder
from sink.store import Outcome, Store
from tests.sink.builders import NOON_NS, SECOND_NS, SpanSpec, checkout_trace, records_of, spans_of, trace_of
from tests.sink.harness import CONTENT_TABLES, contents, query, stored_offsets
from tracecore.alert import Alert, Evidence
from tracecore.buckets import quantile
from tracecore.closed_trace import ClosedTrace
from tracecore.health import Health, HealthReason
from tracecore.otlp import decode_spans
from tracecore.topics import Topics
from tracecore.window import WINDOW_NS, HopWindow, OperationWindow, Window
from tracecore.wire import encode_alert, encode_health, encode_trace, encode_window

TOPICS = Topics()
TRACES = (TOPICS.traces, 0)
LIMITS = BatchLimits(10**6, 10**9, 0, 0)


class Writer:
    """Stores records of one partition, batch after batch, as the consumer does."""

    def __init__(self, database: str, packing: Packing | None = None) -> None:
        self.store = Store(database, TOPICS.otlp_spans)
        self.letters: list[Letter] = []
        self._encoder = RowEncoder()
        self._packing = packing

    def write(self, records: Iterable[Record]) -> Outcome:
        batch = batch_from(records, self._encoder, self._packing)
        return self.store.store(batch, self.store.offsets(list(batch.ranges)), self.letters.extend)

    def write_traces(self, *traces: ClosedTrace) -> Outcome:
        return self.write(records_of(traces, TOPICS))

    def write_windows(self, *windows: Window) -> Outcome:
        return self.write(Record(TOPICS.windows, 0, i, 0, b"", encode_window(w)) for i, w in enumerate(windows))

    def write_alerts(self, *alerts: Alert) -> Outcome:
        return self.write(Record(TOPICS.alerts, 0, i, 0, b"", encode_alert(a)) for i, a in enumerate(alerts))


def batch_from(records: Iterable[Record], encoder: RowEncoder, packing: Packing | None = None) -> Batch:
    batcher = Batcher(TOPICS, LIMITS)
    batcher.leaves_traces = packing is not None
    for record in records:
        batcher.add(record, 0)
    return batch_of(batcher.take(1), encoder, packing)


@pytest.fixture(params=["reference", "compiled"])
def writer(database: str, request: pytest.FixtureRequest) -> Iterable[Writer]:
    """Every law of the store holds for rows of either making."""
    made = Writer(database, request.getfixturevalue("packing") if request.param == "compiled" else None)
    yield made
    made.store.close()


def test_a_row_says_what_the_span_said(writer: Writer, database: str) -> None:
    trace_id = bytes(range(1, 17))
    specs = [
        SpanSpec(1, service="web", name="GET /cart", duration_ms=20, attributes=(("user", "Änne"), ("n", -3))),
        SpanSpec(2, 1, service="cart", kind=3, start_ms=5, error="Timeout", message="too late"),
    ]
    trace = trace_of(spans_of(trace_id, specs, NOON_NS + 123_456_789))
    writer.write_traces(trace)
    root, failed = query(
        database,
        "SELECT encode(span_id, 'hex'), service, operation, kind, status, start_ns, duration_ns, self_time_ns,"
        " critical_path_ns, depth, encode(tree_parent_id, 'hex'), status_message, error_type, attributes, events, raw,"
        " start_time FROM service_traces ORDER BY depth",
    )
    assert root[:5] == ("0000000000000001", "web", "GET /cart", 2, 0)
    assert root[5:10] == (NOON_NS + 123_456_789, 20_000_000, 10_000_000, 10_000_000, 0)
    assert root[10:13] == (None, None, None)
    assert root[13] == {"user": "Änne", "n": -3}
    assert root[14] is None
    assert root[15] == trace.spans[0].raw
    assert root[16] == datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
    assert failed[10:13] == ("0000000000000001", "too late", "Timeout")
    assert failed[14] == [
        {
            "name": "exception",
            "time_ns": NOON_NS + 123_456_789 + 15_000_000,
            "attributes": {"exception.type": "Timeout", "exception.stacktrace": "at line 1"},
        }
    ]
    ((services, error_service, complete, path),) = query(
        database, "SELECT services, error_service, is_complete, critical_path FROM traces"
    )
    assert (services, error_service, complete) == (["cart", "web"], "cart", True)
    assert path == [[segment.span_id.hex(), segment.start_ns, segment.end_ns] for segment in trace.critical_path]
    assert query(database, "SELECT service, attributes->>'host.name' FROM resources ORDER BY 1") == [
        ("cart", "host-1"),
        ("web", "host-1"),
    ]
    assert query(database, "SELECT name, version FROM scopes") == [("tests", "1")]
    assert query(database, "SELECT encode(parent_span_id, 'hex'), child_service FROM trace_spans") == [
        ("0000000000000001", "cart")
    ]


def test_the_same_records_twice_write_the_same_rows(writer: Writer, database: str) -> None:
    traces = [trace_of(checkout_trace(n)) for n in range(60)]
    first = writer.write_traces(*traces)
    before = contents(database)
    again = writer.write_traces(*traces)
    assert (first.traces_new, again.traces_new, again.traces_unchanged, again.spans) == (60, 0, 60, 0)
    assert contents(database) == before
    assert before["service_dependencies"][0] and before["error_group_minutes"][0]


def test_revisions_and_partial_rereads_end_where_the_whole_does(writer: Writer, database: str, empty_twin: str) -> None:
    pick = random.Random(5)
    told: list[ClosedTrace] = []
    whole: list[ClosedTrace] = []
    for n in range(30):
        spans = checkout_trace(n)
        final = trace_of(spans, 4, "late", arrival_s=3)
        whole.append(final)
        told += [
            trace_of(pick.sample(spans, pick.randrange(1, 8)), 1),
            trace_of(pick.sample(spans, 3), 2, arrival_s=2),
            trace_of(spans, 3, arrival_s=3),
            trace_of(spans[:2], 1),
            final,
        ]
    for start in range(0, len(told), 7):
        writer.write_traces(*told[start : start + 7])
    writer.write_traces(*told[:40])
    undisturbed = Writer(empty_twin)
    undisturbed.write_traces(*whole)
    undisturbed.store.close()
    assert contents(database) == contents(empty_twin)


def test_partial_revisions_add_up_to_the_trace(writer: Writer, database: str) -> None:
    spans = checkout_trace(3)
    first = writer.write_traces(trace_of(spans[:5]))
    later = writer.write_traces(trace_of(spans[4:], 2, "late"))
    assert (first.traces_new, later.traces_amended) == (1, 1)
    fresh = trace_of(spans)
    stored = query(database, "SELECT span_id, self_time_ns, critical_path_ns, depth FROM service_traces ORDER BY 1")
    expected = sorted((s.span_id, s.self_time_ns, s.critical_path_ns, s.depth) for s in fresh.spans)
    assert stored == expected
    assert query(database, "SELECT span_count, missing_parents, reason FROM traces") == [(8, 0, "late")]
    calls = query(database, "SELECT sum(calls), sum(errors) FROM service_dependencies")
    assert calls == [(sum(link.calls for link in fresh.links), sum(link.errors for link in fresh.links))]


def test_a_large_trace_in_parts_is_one_trace(writer: Writer, database: str) -> None:
    trace = trace_of(checkout_trace(1, spans=400))
    values = encode_trace(trace, 20_000)
    assert len(values) > 3
    writer.write(Record(TOPICS.traces, 0, i, 0, b"", value) for i, value in enumerate(values[:2]))
    writer.write(Record(TOPICS.traces, 0, i + 2, 0, b"", value) for i, value in enumerate(values[2:]))
    assert query(database, "SELECT span_count FROM traces") == [(400,)]
    assert query(database, "SELECT count(*), sum(critical_path_ns) FROM service_traces") == [
        (400, sum(span.critical_path_ns for span in trace.spans))
    ]


def test_of_a_thousand_spans_with_one_poison_999_land(writer: Writer, database: str) -> None:
    traces = [trace_of(checkout_trace(n, spans=10)) for n in range(100)]
    hurt = trace_of(spans_of(bytes(16 * [9]), [SpanSpec(i, int(i > 1), attributes=(("k", i),)) for i in range(1, 11)]))
    bad = spans_of(bytes(16 * [9]), [SpanSpec(5, 1, attributes=(("k", "a\0b"),))])[0]
    spans = tuple(s._replace(raw=bad.raw) if s.span_id[-1] == 5 else s for s in hurt.spans)
    traces[50] = replace(hurt, spans=spans)
    outcome = writer.write_traces(*traces)
    assert outcome.spans == 999
    assert query(database, "SELECT count(*) FROM service_traces") == [(999,)]
    (letter,) = writer.letters
    headers = dict(letter.headers)
    assert b"NUL" in headers["tracewatch-reason"]
    assert headers["tracewatch-origin-offset"] == b"50"
    assert headers[REDRIVE_HEADER] == TOPICS.otlp_spans.encode()
    (sent_again,), rejected = decode_spans(letter.value)
    assert sent_again.raw == bad.raw and not rejected
    writer.letters.clear()
    writer.write_traces(*traces)
    assert not writer.letters, "what is known is not told again"


@pytest.mark.parametrize(
    ("attribute", "why"),
    [
        (("big", 1e308), ""),
        (("deep", "x" * 300_000), ""),
        (("s", "\U0001f600 \\u0000 \\"), ""),
        (("n", float("nan")), ""),
        (("b", b"\xff\x00"), ""),
    ],
)
def test_odd_attributes_that_are_no_poison_are_stored(
    writer: Writer, database: str, attribute: tuple[str, object], why: str
) -> None:
    outcome = writer.write_traces(trace_of(spans_of(bytes(range(16)), [SpanSpec(1, attributes=(attribute,))])))
    assert (outcome.spans, outcome.letters) == (1, [])


def test_what_only_postgresql_refuses_is_found_by_halves(writer: Writer, database: str) -> None:
    """A constraint that the sink knows nothing of stands for whatever PostgreSQL may come to refuse."""
    query_free(database, "ALTER TABLE service_traces ADD CHECK (operation <> 'GET /refused')")
    traces = [trace_of(checkout_trace(n)) for n in range(40)]
    specs = [SpanSpec(1), SpanSpec(2, 1, name="GET /refused"), SpanSpec(3, 1)]
    refused = trace_of(spans_of(bytes(range(16)), specs))
    outcome = writer.write_traces(*traces[:20], refused, *traces[20:])
    assert (outcome.spans, outcome.traces_new) == (40 * 8 + 2, 41)
    assert len(writer.letters) == 1
    assert b"PostgreSQL refuses it" in dict(writer.letters[0].headers)["tracewatch-reason"]
    assert query(database, "SELECT count(*) FROM service_traces WHERE trace_id = %s", bytes(range(16))) == [(2,)]


def test_a_trace_that_is_refused_as_a_whole_goes_to_the_dead_letters(writer: Writer, database: str) -> None:
    query_free(database, "ALTER TABLE traces ADD CHECK (root_service <> 'cursed')")
    cursed = trace_of(spans_of(bytes(range(16)), [SpanSpec(1, service="cursed"), SpanSpec(2, 1, service="cursed")]))
    outcome = writer.write_traces(cursed, *(trace_of(checkout_trace(n)) for n in range(5)))
    assert (outcome.traces_new, outcome.spans) == (5, 40)
    (letter,) = writer.letters
    assert letter.value == encode_trace(cursed)[0]


def test_records_that_cannot_be_read_are_letters_and_the_rest_lands(writer: Writer, database: str) -> None:
    records = list(records_of([trace_of(checkout_trace(n)) for n in range(3)], TOPICS))
    records[1] = records[1]._replace(value=b"\xc1garbage", headers=(("mine", b"1"),))
    outcome = writer.write(records)
    assert outcome.traces_new == 2
    (letter,) = writer.letters
    assert letter.value == b"\xc1garbage" and ("mine", b"1") in letter.headers
    assert stored_offsets(database)[TRACES] == 3


def operation_window(index: int = 0, partition: int = 0, spans: int = 5) -> OperationWindow:
    start_ns = NOON_NS + index * WINDOW_NS
    milli = spans * 1000
    return OperationWindow(
        start_ns, "shop", "GET /", 2, partition, spans, milli, 1000, {10: milli, 900: 7}, {5: milli}, "ab" * 16, ""
    )


def test_windows_become_minutes_and_hours_and_nothing_counts_twice(writer: Writer, database: str) -> None:
    windows: list[Window] = [operation_window(i, p) for i in range(9) for p in range(2)]
    hop = HopWindow(NOON_NS, "web", "db", "SELECT", 0, 2, 2000, 0, {50: 2000}, {3: 2000}, "", "cd" * 16)
    writer.write_windows(*windows, hop)
    before = contents(database)
    again = writer.write_windows(*windows, hop, operation_window(0, 0, spans=4))
    assert again.windows == 0
    assert contents(database) == before
    assert query(database, "SELECT start_time::text, spans FROM operation_minutes ORDER BY 1") == [
        ("2026-11-22 12:00:00+00", 60),
        ("2026-11-22 12:01:00+00", 30),
    ]
    writer.write_windows(operation_window(0, 0, spans=8))
    ((spans, buckets, counts, slowest),) = query(
        database,
        "SELECT spans, duration_buckets, duration_counts, encode(slowest_trace_id, 'hex') FROM operation_hours",
    )
    assert (spans, buckets, counts, slowest) == (93, [10, 900], [93_000, 18 * 7], "ab" * 16)
    assert query(database, "SELECT caller, callee, gap_buckets, failed_trace_id IS NOT NULL FROM hop_hours") == [
        ("web", "db", [3], True)
    ]


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 1.0])
def test_the_quantile_of_sql_is_that_of_the_core(database: str, q: float) -> None:
    buckets = {5: 3, 130: 10, 127: 2, 900: 5, 3000: 1}
    found = query(
        database, "SELECT histogram_quantile(%s::int[], %s::bigint[], %s)", list(buckets), list(buckets.values()), q
    )
    assert found == [(pytest.approx(quantile(buckets, q)),)]


def alert_event(status: str, updated_s: int, starts_s: int = 0, replay_id: str = "") -> Alert:
    labels = {"alertname": "ErrorRate", "service": "shop", "severity": "critical"}
    at_ns = NOON_NS + updated_s * SECOND_NS
    return Alert(
        "f1",
        "resolved" if status == "resolved" else "firing",
        labels,
        {"summary": f"at {updated_s}"},
        NOON_NS + starts_s * SECOND_NS,
        at_ns,
        at_ns if status == "resolved" else None,
        at_ns,
        Evidence(0.5, 0.01, "ratio", 7, ("ab" * 16,)),
        replay_id,
    )


def test_an_episode_of_an_alert_is_one_row(writer: Writer, database: str) -> None:
    events = [
        alert_event("firing", 1),
        alert_event("firing", 30),
        alert_event("resolved", 60),
        alert_event("firing", 100, starts_s=90),
        alert_event("firing", 1, replay_id="r1"),
    ]
    for _ in range(2):
        writer.write_alerts(*events)
    rows = query(
        database,
        "SELECT status, detected_at::text, resolved_at IS NOT NULL, annotations->>'summary', evidence->>'count'"
        " FROM alerts ORDER BY starts_at, replay_id",
    )
    assert rows == [
        ("resolved", "2026-11-22 12:00:01+00", True, "at 60", "7"),
        ("firing", "2026-11-22 12:00:01+00", False, "at 1", "7"),
        ("firing", "2026-11-22 12:01:40+00", False, "at 100", "7"),
    ]


def test_health_is_a_row_a_window_and_what_is_out_of_range_a_letter(writer: Writer, database: str) -> None:
    said = [
        Health("shop", NOON_NS, 70, (HealthReason("latency", 30, "p95 is twice the usual"),)),
        Health("shop", NOON_NS + WINDOW_NS, 100, ()),
        Health("shop", NOON_NS, 60, (HealthReason("errors", 40),)),
        Health("shop", NOON_NS + 2 * WINDOW_NS, 101, ()),
    ]
    outcome = writer.write(Record(TOPICS.health, 0, i, 0, b"", encode_health(each)) for i, each in enumerate(said))
    assert outcome.health == 3
    assert [letter.value for letter in writer.letters] == [encode_health(said[3])]
    assert query(database, "SELECT score, reasons FROM service_health ORDER BY start_time") == [
        (60, [{"reason": "errors", "points": 40, "detail": ""}]),
        (100, []),
    ]


def test_a_window_and_an_alert_that_cannot_be_stored_are_letters(writer: Writer, database: str) -> None:
    bad_window = replace(operation_window(1), service="a\0b")
    outcome = writer.write_windows(operation_window(0), bad_window, operation_window(2))
    assert outcome.windows == 2
    bad_alert = replace(alert_event("firing", 1), annotations={"summary": "\0"})
    outcome = writer.write_alerts(bad_alert, alert_event("firing", 2, starts_s=2))
    assert outcome.alerts == 1
    assert [letter.value for letter in writer.letters] == [encode_window(bad_window), encode_alert(bad_alert)]


def test_of_two_sinks_with_one_partition_one_stores_the_batch(writer: Writer, database: str) -> None:
    other = Writer(database)
    batch = batch_from(records_of([trace_of(checkout_trace(1))], TOPICS), RowEncoder())
    stood = writer.store.offsets([TRACES])
    assert stood == other.store.offsets([TRACES]) == {TRACES: 0}
    writer.store.store(batch, stood, writer.letters.extend)
    before = contents(database)
    with pytest.raises(Overtaken, match="stored to 1, not 0"):
        other.store.store(batch, stood, other.letters.extend)
    other.store.close()
    assert contents(database) == before


def test_a_batch_whose_letters_cannot_be_sent_is_not_stored(writer: Writer, database: str) -> None:
    batch = batch_from([Record(TOPICS.traces, 0, 0, 0, None, b"\xc1")], RowEncoder())

    def refuse(_: Sequence[Letter]) -> None:
        raise StoreAway("Kafka is away")

    with pytest.raises(StoreAway):
        writer.store.store(batch, writer.store.offsets([TRACES]), refuse)
    assert stored_offsets(database)[TRACES] == 0


def test_a_day_that_retention_dropped_meanwhile_is_made_again(writer: Writer, database: str) -> None:
    writer.write_traces(trace_of(checkout_trace(1)))
    query_free(database, "SELECT drop_day_partition(table_name, day) FROM day_partitions")
    batch = batch_from(records_of([trace_of(checkout_trace(2))], TOPICS), RowEncoder())
    stood = stored_offsets(database)
    with pytest.raises(StoreAway, match="no partition"):
        writer.store.store(batch, stood, writer.letters.extend)
    assert writer.store.store(batch, stood, writer.letters.extend).spans == 8


def test_a_history_that_was_emptied_is_written_anew_as_a_whole(writer: Writer, database: str) -> None:
    traces = [trace_of(checkout_trace(n)) for n in range(5)]
    writer.write_traces(*traces)
    before = contents(database)
    query_free(database, f"TRUNCATE {', '.join(CONTENT_TABLES)}, sink_offsets")
    assert writer.write_traces(*traces).traces_new == 5
    assert contents(database) == before and before["resources"][0]


def test_a_database_without_tables_says_what_to_run(empty_database: str) -> None:
    with pytest.raises(SchemaMissing, match="python -m migrations up"):
        Store(empty_database, "").offsets([TRACES])


def test_a_database_that_is_not_there_is_away() -> None:
    with pytest.raises(StoreAway):
        Store("postgresql://127.0.0.1:1/none", "").offsets([TRACES])


def test_attributes_can_be_searched(writer: Writer, database: str) -> None:
    writer.write_traces(*(trace_of(checkout_trace(n)) for n in range(30)))
    tag = json.dumps({"http.response.status_code": 200})
    ((found,),) = query(
        database,
        "SELECT count(*) FROM service_traces WHERE service = 'cart' AND start_time BETWEEN %s AND %s"
        " AND attributes @> %s::jsonb",
        datetime(2026, 11, 22, 12, tzinfo=UTC),
        datetime(2026, 11, 22, 13, tzinfo=UTC),
        tag,
    )
    assert int(str(found)) > 0


def query_free(database: str, statement: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]
