"""What decides, and asks nobody: access, filters, parameters, what fires, RED counters, metrics of Jaeger's Monitor."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_api import jaeger_metrics
from live_api.access import Access, bearer_token, subprotocol_token, tokens_of
from live_api.errors import InvalidParameter
from live_api.filters import AlertFilter, alert_filter, trace_filter
from live_api.firing import Firing
from live_api.frames import text_frame
from live_api.jaeger_metrics import Point, metric_family
from live_api.parameters import Parameters, go_duration_ns, rfc3339_ns, tags_of, trace_id_of
from live_api.red import Red
from live_api.trace_query import SpanQuery, TraceQuery, spans_statement, traces_statement
from live_api.traces import decode_summary
from live_api.views import page_cursor, read_page_cursor
from tests.live_api.builders import alert, closed_trace
from tracecore.window import OperationWindow
from tracecore.wire import encode_trace

S = 1_000_000_000
MINUTE_NS = 60 * S


def test_any_of_several_tokens_is_good_and_none_is_needed_without() -> None:
    access = Access(tokens_of("one, two", "three # mine\n\n#four"))
    assert [access.allows(token) for token in ("one", "two", "three", "four", "", "on", "\ud800")] == [True] * 3 + [
        False
    ] * 4
    assert Access().allows("") and not Access().needs_token
    assert bearer_token("Bearer abc ") == "abc" and bearer_token("Basic abc") == ""
    assert subprotocol_token(["tracewatch.v1", "bearer.abc"]) == "abc"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("", "x", True),
        ("https://grafana.example.org", "x", True),
        ("https://GRAFANA.example.org/", "x", True),
        ("http://127.0.0.1:8600", "127.0.0.1:8600", True),
        ("http://[::1]:8600", "[::1]:8600", True),
        ("http://localhost:8600", "localhost:8600", True),
        ("http://127.0.0.1:9999", "127.0.0.1:8600", False),
        ("http://rebound.example:8600", "rebound.example:8600", False),
        ("null", "null", False),
        ("http://[", "x", False),
    ],
)
def test_origins(origin: str, host: str, allowed: bool) -> None:
    assert Access(allowed_origins=["https://grafana.example.org/"]).allows_origin(origin, host) is allowed


def test_filter_takes_alternatives_of_a_name_and_all_names() -> None:
    asked = alert_filter({"service": ["a", "b"], "severity": ["critical"], "kind": ["LatencyShift"]})
    assert [asked.matches(each) for each in (alert("a"), alert("c"), alert("b", severity="info"))] == [
        True,
        False,
        False,
    ]
    assert not asked.matches(alert("a", replay_id="r"))
    assert alert_filter({"replay": ["r"]}).matches(alert(replay_id="r")) and not alert_filter(
        {"replay": ["r"]}
    ).matches(alert())
    assert alert_filter({"replay": ["all"]}).matches(alert(replay_id="r")) and alert_filter(
        {"replay": ["all"]}
    ).matches(alert())


@pytest.mark.parametrize(
    "query",
    [
        {"min_duration_ms": ["-1"]},
        {"min_duration_ms": ["nan"]},
        {"errors_only": ["maybe"]},
        {"service": [""]},
        {"x": ["1"]},
    ],
)
def test_filter_refuses_what_means_nothing(query: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidParameter) as refused:
        trace_filter(query)
    assert refused.value.parameter == next(iter(query))


def test_firing_holds_the_last_word_on_each_alert() -> None:
    firing = Firing()
    for each in (
        alert("a"),
        alert("b"),
        alert("a", number=1),
        alert("b", status="resolved", number=2),
        alert("c", replay_id="r"),
    ):
        firing.observe(each)
    assert [(each.service, each.updated_at_ns) for each in firing.asked_for(AlertFilter())] == [("a", S + 1)]
    assert [each.service for each in firing.asked_for(AlertFilter(replay="all"))] == ["a", "c"]
    firing.clear()
    assert len(firing) == 0


def test_summary_is_read_from_part_0_alone() -> None:
    trace = closed_trace(5, errors=2)
    summary = decode_summary(encode_trace(trace)[0])
    assert summary is not None
    assert (summary.trace_id, summary.duration_ns, summary.error_count) == (f"{5:032x}", trace.duration_ns, 2)


@given(st.binary(max_size=70_000))
def test_frame_names_its_length(message: bytes) -> None:
    frame = text_frame(message)
    head = {True: 2}.get(len(message) < 126, 4 if len(message) < 65536 else 10)
    assert frame[0] == 0x81 and frame[head:] == message
    assert (frame[1] if head == 2 else int.from_bytes(frame[2:head], "big")) == len(message)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1.5s", 1_500_000_000),
        ("1m30s", 90 * S),
        ("250ms", 250_000_000),
        ("0", 0),
        ("100us", 100_000),
        ("2µs", 2000),
        (".5h", 1800 * S),
    ],
)
def test_durations_as_go_writes_them(text: str, ns: int) -> None:
    assert go_duration_ns("d", text) == ns


@pytest.mark.parametrize("text", ["", "5", "s", "1 s", "-1s", "1s1", "1e3s", "999999999h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidParameter):
        go_duration_ns("d", text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-11-22T12:00:00Z", 1_795_348_800 * S),
        ("2026-11-22T13:00:00.123456789+01:00", 1_795_348_800 * S + 123_456_789),
        ("1970-01-01t00:00:00.5z", S // 2),
    ],
)
def test_times_to_the_nanosecond(text: str, ns: int) -> None:
    assert rfc3339_ns("t", text) == ns


@given(st.text(max_size=30))
def test_readers_refuse_by_name_and_never_crash(text: str) -> None:
    for read in (go_duration_ns, rfc3339_ns, trace_id_of, tags_of):
        try:
            read("p", text)
        except InvalidParameter as error:
            assert error.parameter == "p"
    for of in ("integer", "boolean"):
        parameters = Parameters({"p": [text]})
        try:
            _ = parameters.integer("p", 1, 0, 9) if of == "integer" else parameters.boolean("p")
        except InvalidParameter as error:
            assert error.parameter == "p"
    try:
        read_page_cursor(text)
    except InvalidParameter as error:
        assert error.parameter == "cursor"


@given(st.integers(0, 2**62 - 1), st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_page_cursor_reads_as_it_was_written(time_ns: int, last_id: str) -> None:
    assert read_page_cursor(page_cursor(time_ns, last_id)) == (time_ns, last_id)


@given(
    st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4), st.text(max_size=10), st.text(max_size=10)
)
def test_no_value_ever_stands_in_the_sql(tags: dict[str, str], service: str, operation: str) -> None:
    special = {"error", "event", "span.kind", "otel.status_code"} & tags.keys()
    some = ("s" if service else "", "o" if operation else "")
    ways: tuple[tuple[Any, Any], ...] = ((SpanQuery, spans_statement), (TraceQuery, traces_statement))
    for query, statement in ways:
        plain, _ = statement(query(0, 1, 1, *some, tags=dict.fromkeys(tags, "v")))
        sql, parameters = statement(query(0, 1, 1, service, operation, tags=tags))
        assert special or sql == plain
        assert not service or parameters["service"] == service


def window(start_s: int, spans: int, *, partition: int = 0, operation: str = "GET /") -> OperationWindow:
    return OperationWindow(
        start_ns=start_s * S,
        service="cart",
        operation=operation,
        kind=2,
        partition=partition,
        spans=spans,
        count_milli=spans * 1000,
        error_milli=1000,
        duration={1000: spans * 1000},
        self_time={},
        slowest="ab" * 16,
    )


def test_window_that_comes_again_adds_what_it_has_more() -> None:
    red = Red(10)
    for each in (window(0, 5), window(0, 5), window(0, 3), window(0, 8), window(0, 2, partition=1), window(10, 1)):
        red.observe(each)
    (operation,) = red.operations.values()
    assert (operation.count_milli, operation.error_milli) == (11_000, 3000)
    assert sum(operation.durations) == 11_000
    assert next(iter(operation.slowest.values())).trace_id == "ab" * 16


def test_old_windows_are_forgotten_and_too_many_operations_add_up() -> None:
    red = Red(2)
    red.observe(window(0, 5))
    red.observe(window(10_000, 1))
    red.observe(window(0, 9))
    assert red.operations["cart", "GET /", 2].count_milli == 6000
    for number in range(4):
        red.observe(window(10_000, 1, operation=f"op-{number}"))
    assert {name for _, name, _ in red.operations} == {"GET /", "op-0", "other"}
    assert red.operations["cart", "other", 0].count_milli == 3000


def test_monitor_slides_a_window_over_the_minutes_and_leaves_gaps_empty() -> None:
    points = [Point("cart", "GET /", minute * MINUTE_NS, 60_000, 6_000, {1000: 60_000}) for minute in (0, 1, 5)]
    query = jaeger_metrics.MetricsQuery(("cart",), (2,), True, MINUTE_NS, 7 * MINUTE_NS, MINUTE_NS, 2 * MINUTE_NS, 0.5)
    (metric,) = metric_family("calls", query, points)["metrics"]
    values = {point["timestamp"][14:16]: point["gaugeValue"]["doubleValue"] for point in metric["metricPoints"]}
    assert values == {"01": 0.5, "02": 1.0, "03": 0.5, "06": 0.5, "07": 0.5}
    assert {label["name"]: label["value"] for label in metric["labels"]} == {
        "operation": "GET /",
        "service_name": "cart",
    }
