"""Nothing secret is stored, whoever sent it: no table, no column, not even the bytes of a span."""

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from psycopg import sql

from sink.batches import Batcher, BatchLimits, Record, batch_of
from sink.packed import Packing
from sink.rows import RowEncoder
from sink.store import Store
from tests.sink.builders import records_of
from tests.tracecore.builders import T0_NS, closed, span
from tracecore.alert import Alert, Evidence
from tracecore.health import Health, HealthReason
from tracecore.redaction import BUILT_IN, Redaction
from tracecore.span import Span
from tracecore.topics import Topics
from tracecore.window import HopWindow, OperationWindow
from tracecore.wire import encode_alert, encode_health, encode_window

Making = Callable[[Redaction], Packing] | None

TOPICS = Topics()
LIMITS = BatchLimits(10**6, 10**9, 0, 0)
CARD = "4111111111111111"
SECRETS = (CARD, "s3ss10n", "hunter2", "b34r3r", "internal-7")
EVIDENCE = Evidence(1.0, None, "errors", 1, ("aa",))


def leaky_spans(number: int = 1) -> list[Span]:
    root = span(
        f"GET /pay/{CARD}",
        trace=number,
        error=f"declined {CARD}",
        attributes={"http.request.header.authorization": "Bearer b34r3r", "http.route": "/pay", "host": "internal-7"},
        resource={"host.name": "web-1", "db.password": "hunter2"},
        events=[("exception", 1, {"exception.message": f"no {CARD}", "exception.type": "Declined"})],
    )
    ordinary = span("GET /stock", parent=root, attributes={"http.request.header.cookie": "s3ss10n"})
    password = KeyValue(key="password", value=AnyValue(string_value="hunter2"))
    scope = InstrumentationScope(name="lib", attributes=[password])
    return [root, ordinary._replace(scope=replace(ordinary.scope, raw=scope.SerializeToString()))]


@pytest.fixture(params=["reference", "compiled"])
def making(request: pytest.FixtureRequest) -> Making:
    """How rows are made; what is compiled makes none of what patterns are looked for in."""
    return request.getfixturevalue("packing").__class__ if request.param == "compiled" else None


def store_all(database: str, records: list[Record], redaction: Redaction, making: Making) -> None:
    packing = making(redaction) if making is not None and not redaction.has_patterns else None
    batcher = Batcher(TOPICS, LIMITS, redaction)
    batcher.leaves_traces = packing is not None
    for record in records:
        batcher.add(record, 0.0)
    batch = batch_of(batcher.take(1.0), RowEncoder(redaction), packing)
    store = Store(database, TOPICS.otlp_spans, redaction)
    store.store(batch, store.offsets(list(batch.ranges)), lambda letters: None)
    store.close()


def everything(database: str) -> str:
    """Every row of every table, as text; bytes as the text they hold."""
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND relname NOT LIKE '%yoyo%'"
        ).fetchall()
        said = ""
        for (table,) in tables:
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))):
                for value in row:
                    said += value.decode("latin-1") if isinstance(value, bytes) else str(value)
        return said


def test_no_table_holds_a_secret(database: str, making: Making) -> None:
    alert = Alert("ff", "firing", {"alertname": "E", "service": "web", "operation": f"GET /pay/{CARD}"},
                  {"summary": f"declined {CARD}"}, T0_NS, T0_NS, None, T0_NS, EVIDENCE)  # fmt: skip
    records = list(records_of([closed(leaky_spans())], TOPICS))
    statements = (
        (TOPICS.windows, encode_window(
            OperationWindow(T0_NS, "web", f"GET /pay/{CARD}", 2, 0, 1, 1000, 0, {1: 1}, {1: 1}))),
        (TOPICS.windows, encode_window(HopWindow(T0_NS, "a", "b", f"GET /pay/{CARD}", 0, 1, 1000, 0, {1: 1}, {}))),
        (TOPICS.alerts, encode_alert(alert)),
        (TOPICS.health, encode_health(Health("web", T0_NS, 50, (HealthReason("errors", 50, f"of {CARD}"),)))),
    )  # fmt: skip
    records += [Record(topic, 7, offset, 0, None, value) for offset, (topic, value) in enumerate(statements)]
    store_all(database, records, Redaction(patterns=["internal-[0-9]+"]), making)
    said = everything(database)
    assert "GET /pay/[redacted]" in said and "Declined" in said and "web-1" in said
    assert [secret for secret in SECRETS if secret in said] == []


def test_a_later_revision_does_not_bring_the_secret_back(database: str, making: Making) -> None:
    spans = leaky_spans()
    store_all(database, list(records_of([closed(spans)], TOPICS)), BUILT_IN, making)
    late = span("late", trace=1, parent=99, attributes={"set-cookie": "s3ss10n"}, start_ms=1)
    again = closed([late], revision=2, reason="late")
    second = [record._replace(offset=record.offset + 10) for record in records_of([again], TOPICS)]
    store_all(database, second, BUILT_IN, making)
    said = everything(database)
    assert "late" in said
    assert "s3ss10n" not in said and CARD not in said


def test_a_span_that_cannot_be_masked_is_poison_and_the_rest_is_not() -> None:
    failed, fine = span("GET /", error="declined", events=[("exception", 1, {"card": CARD})]), span("GET /stock")
    broken_state = b"\x1a\x01\xff"  # a trace state that is no UTF-8: what is lenient reads on, protobuf does not
    trace = closed([failed, fine])
    broken = tuple(
        each._replace(raw=each.raw + broken_state) if each.span_id == failed.span_id else each for each in trace.spans
    )
    rows = RowEncoder().rows_of(replace(trace, spans=broken), b"")
    assert [poison.span.span_id for poison in rows.poison] == [failed.span_id]
    assert "does not parse" in rows.poison[0].reason
    assert [kept.span_id for kept in rows.spans] == [fine.span_id]


def test_what_has_no_secret_is_stored_byte_for_byte() -> None:
    trace = closed([span(attributes={"http.route": "/cart", "n": 10**12, "items": ["a"]})])
    rows = RowEncoder().rows_of(trace, b"")
    assert rows.trace is trace
    assert trace.spans[0].raw in rows.span_rows[0]


@pytest.mark.parametrize("attribute", [{"a": "b"}, {"n": 4111111111111112}, {"t": "41111111111111112222"}])
def test_what_only_looks_like_a_secret_costs_no_second_look(attribute: dict[str, object]) -> None:
    trace = closed([span(attributes=attribute)])  # type: ignore[arg-type]
    assert RowEncoder().rows_of(trace, b"").trace is trace
