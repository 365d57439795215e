"""Our own REST API against the history."""

import warnings

import httpx
import psycopg
import pytest

from live_api.settings import LiveApiSettings
from tests.live_api.builders import alert
from tests.live_api.conftest import application
from tests.live_api.history import MS, NOON_NS, Made, made_trace, request_of, store, trace_of
from tracecore.buckets import bucket_of
from tracecore.span import SpanKind
from tracecore.topics import Topics
from tracecore.window import OperationWindow

AROUND_NOON = {"start": "2026-11-22T11:00:00Z", "end": "2026-11-22T13:00:00Z"}


def shop(trace_id: int, start_ms: float, cart_ms: float = 20, error: bool = False) -> tuple[int, tuple[Made, ...]]:
    """A request of two services; the cart's share of it varies."""
    return trace_id, (
        Made(1, service="front", name="GET /cart", start_ms=start_ms, duration_ms=cart_ms + 20),
        Made(2, 1, service="front", name="get", kind=SpanKind.CLIENT, start_ms=start_ms + 5, duration_ms=cart_ms + 10),
        Made(3, 2, service="cart", name="GET /", start_ms=start_ms + 10, duration_ms=cart_ms, error=error,
             attributes={"size": trace_id}),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def stored(history: str) -> None:
    """Ten traces a second apart, two minutes of windows, two alerts, and a replay."""
    traces = [made_trace(*_flat(shop(number, number * 1000))) for number in range(1, 10)]
    traces.append(made_trace(*_flat(shop(10, 10_000, cart_ms=200, error=True))))
    traces.append(trace_of(request_of(*shop(11, 11_000)), replay_id="again"))
    windows = [
        OperationWindow(
            start_ns=NOON_NS + number * 10_000_000_000,
            service="cart",
            operation="GET /",
            kind=2,
            partition=0,
            spans=10,
            count_milli=10_000,
            error_milli=1_000,
            duration={bucket_of(20 * MS): 9_000, bucket_of(200 * MS): 1_000},
            self_time={bucket_of(20 * MS): 10_000},
            slowest=f"{10:032x}",
            failed=f"{10:032x}",
        )
        for number in range(12)
    ]
    alerts = [alert("cart", starts_at_ns=NOON_NS + number, number=number) for number in range(3)]
    store(history, traces, windows, alerts)
    with psycopg.connect(history) as connection:
        connection.execute(
            "INSERT INTO replays (replay_id, name, source, request, state, spans)"
            " VALUES ('again', 'again', 'history', '{}', 'running', 3)"
        )
        connection.execute(
            "INSERT INTO service_health (service, start_time, score, reasons, replay_id) VALUES"
            " ('cart', '2026-11-22 12:00:00Z', 90, '[]', ''), ('cart', '2026-11-22 12:00:10Z', 40,"
            """ '[{"reason": "errors", "points": 60}]', ''), ('cart', '2026-11-22 12:00:20Z', 0, '[]', 'again'),"""
            " ('front', '2026-11-22 12:00:00Z', 90, '[]', '')"
        )


def _flat(made: tuple[int, tuple[Made, ...]]) -> tuple[int, *tuple[Made, ...]]:
    return made[0], *made[1]


async def test_pages_of_a_search_hold_every_trace_once(queries: httpx.AsyncClient) -> None:
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        query = {**AROUND_NOON, "service": "cart", "limit": "4", "cursor": cursor}
        page = (await queries.get("/api/v1/traces", params=query)).json()
        seen += [int(trace["trace_id"], 16) for trace in page["traces"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == (list(range(11, 0, -1)), 3)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"status": "error"}, [10]),
        ({"min_duration_ms": "100"}, [10]),
        ({"max_duration_ms": "100", "status": "ok", "tag": "size=3", "service": "cart"}, [3]),
        ({"service": "front", "tag": "size=3"}, []),
        ({"operation": "get", "limit": "1"}, [11]),
        ({"service": "nobody"}, []),
    ],
)
async def test_search(queries: httpx.AsyncClient, asked: dict[str, str], found: list[int]) -> None:
    answer = await queries.get("/api/v1/traces", params={**AROUND_NOON, **asked})
    assert answer.status_code == 200, answer.text
    assert [int(trace["trace_id"], 16) for trace in answer.json()["traces"]] == found


async def test_trace_shows_its_tree_self_times_and_critical_path(queries: httpx.AsyncClient) -> None:
    trace = (await queries.get(f"/api/v1/traces/{10:x}")).json()
    assert [(span["depth"], span["operation"]) for span in trace["spans"]] == [
        (0, "GET /cart"),
        (1, "get"),
        (2, "GET /"),
    ]
    assert [span["self_time_ns"] for span in trace["spans"]] == [10 * MS, 10 * MS, 200 * MS]
    assert sum(part["end_ns"] - part["start_ns"] for part in trace["critical_path"]) == trace["duration_ns"] == 220 * MS
    assert (trace["error_origin"], trace["error_service"]) == (f"{3:016x}", "cart")
    assert trace["spans"][2]["gap_ns"] == 10 * MS
    assert trace["links"][0]["caller"] == "front"


async def test_comparison_names_the_operation_that_changed_most(queries: httpx.AsyncClient) -> None:
    answer = (await queries.get(f"/api/v1/traces/{1:x}/compare/{10:x}")).json()
    first = answer["operations"][0]
    assert first["path"] == ["front: GET /cart", "front: get", "cart: GET /"]
    assert first["self_time_change_ns"] == 180 * MS
    assert first["errors"] == [0, 1]


async def test_statistics_merge_the_minutes_of_the_range(queries: httpx.AsyncClient) -> None:
    within = {"start": "2026-11-22T12:00:00Z", "end": "2026-11-22T12:02:00Z"}
    answer = (await queries.get("/api/v1/services/cart/statistics", params=within)).json()
    (operation,) = answer["operations"]
    assert operation["rate_per_s"] == pytest.approx(1.0)
    assert operation["error_ratio"] == pytest.approx(0.1)
    assert operation["p50_ns"] == pytest.approx(20 * MS, rel=0.01)
    assert operation["p99_ns"] == pytest.approx(200 * MS, rel=0.01)
    assert operation["slow_trace_id"] == f"{10:032x}"


async def test_monitor_page_of_jaeger_ui(queries: httpx.AsyncClient) -> None:
    at = {"endTs": NOON_NS // MS + 120_000, "lookback": 120_000, "step": 60_000, "ratePer": 120_000, "service": "cart"}
    expected = {"latencies": 200.0, "calls": 1.0, "errors": 0.1}
    for name, value in expected.items():
        answer = (await queries.get(f"/api/metrics/{name}", params={**at, "quantile": 0.95})).json()
        (metric,) = answer["metrics"]
        assert metric["labels"] == [{"name": "service_name", "value": "cart"}]
        last = metric["metricPoints"][-1]
        assert last["timestamp"] == "2026-11-22T12:02:00Z"
        assert last["gaugeValue"]["doubleValue"] == pytest.approx(value, rel=0.01)
    answer = await queries.get("/api/metrics/latencies", params=at)
    assert answer.status_code == 400 and answer.json()["errors"][0]["msg"].startswith("quantile: ")


async def test_lists_of_services_errors_alerts_replays(queries: httpx.AsyncClient) -> None:
    assert (await queries.get("/api/v1/services")).json() == {"services": ["cart", "front"]}
    operations = (await queries.get("/api/v1/services/front/operations")).json()["operations"]
    assert operations == [{"operation": "GET /cart", "kind": "server"}, {"operation": "get", "kind": "client"}]
    (link,) = (await queries.get("/api/v1/dependencies", params=AROUND_NOON)).json()["dependencies"]
    assert (link["caller"], link["callee"], link["mean_gap_ns"]) == ("front", "cart", 10 * MS)
    (group,) = (await queries.get("/api/v1/errors", params=AROUND_NOON)).json()["groups"]
    assert (group["service"], group["errors"], group["last_trace_id"]) == ("cart", 1, f"{10:032x}")
    page = (await queries.get("/api/v1/alerts", params={**AROUND_NOON, "limit": "2"})).json()
    rest = (await queries.get("/api/v1/alerts", params={**AROUND_NOON, "cursor": page["next_cursor"]})).json()
    assert (len(page["alerts"]), len(rest["alerts"]), rest["next_cursor"]) == (2, 1, None)
    assert page["alerts"][0]["labels"]["service"] == "cart"
    (replay,) = (await queries.get("/api/v1/replays", params={"state": "running"})).json()["replays"]
    assert (replay["replay_id"], replay["spans"], replay["alerts"]) == ("again", 3, None)
    assert (await queries.get("/api/v1/replays", params={"state": "done"})).json() == {"replays": []}
    health = (await queries.get("/api/v1/health", params=AROUND_NOON)).json()["services"]
    assert [(each["service"], each["score"]) for each in health] == [("cart", 40), ("front", 90)]
    assert health[0]["reasons"] == [{"reason": "errors", "points": 60}]
    firing = (await queries.get("/api/v1/alerts/firing")).json()
    assert firing["alerts"] == []  # the feed of this application reads no topic


@pytest.mark.parametrize("name", ["a%2Fb", "a%0Ab", "%0A", "a%2F%2F%C2%85b"])
@pytest.mark.parametrize(
    "path", ["/api/v1/services/{}/operations", "/api/v1/services/{}/statistics", "/api/services/{}/operations"]
)
async def test_a_service_may_have_any_name(queries: httpx.AsyncClient, path: str, name: str) -> None:
    assert (await queries.get(path.format(name))).status_code == 200


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/v1/traces?start=2026-11-22T13:00:00Z&end=2026-11-22T12:00:00Z", "start"),
        ("/api/v1/traces?start=0001-01-01T00:00:00Z", "start"),
        ("/api/v1/traces?cursor=nonsense", "cursor"),
        ("/api/v1/traces?tag=x", "tag"),
        ("/api/v1/traces?limit=100000", "limit"),
        ("/api/v1/traces?min_duration_ms=2&max_duration_ms=1", "min_duration_ms"),
        ("/api/v1/traces/0", "trace_id"),
        ("/api/v1/services/front/operations?kind=odd", "kind"),
        ("/api/v1/services/front/operations?Kind=server", "Kind"),
        ("/api/v1/traces?servcie=front", "servcie"),
        ("/api/v1/traces?tags=a%3Db", "tags"),
        ("/api/v1/services?limit=1", "limit"),
        ("/api/v1/alerts?severity=loud", "severity"),
        ("/api/v1/alerts/firing?status=firing", "status"),
        ("/api/v1/errors?limit=0", "limit"),
        ("/api/v1/dependencies?start=yesterday", "start"),
        ("/api/v1/health?end=9999-01-01T00:00:00Z", "end"),
        ("/api/v1/replays?state=lost", "state"),
        ("/api/v1/silences?id=1", "id"),
        ("/api/v1/traces/xyz", "trace_id"),
        ("/api/v1/traces/1/compare/xyz", "other_id"),
        ("/api/v2/traces?limit=0", "limit"),
        ("/api/v2/traces?endTs=soon", "endTs"),
        ("/api/v2/traceMany?traceIds=1", "traceIds"),
        ("/api/v2/dependencies", "endTs"),
        ("/api/v3/traces", "query.startTimeMin"),
        ("/api/v3/operations", "service"),
        ("/api/v3/operations?service=a&spanKind=odd", "spanKind"),
        ("/api/metrics/calls", "service"),
        ("/api/metrics/calls?service=a&step=x", "step"),
        ("/api/metrics/latencies?service=a&quantile=2", "quantile"),
        ("/api/dependencies?lookback=-1", "lookback"),
        ("/api/operations", "service"),
    ],
)
async def test_bad_parameter_is_refused_by_name(queries: httpx.AsyncClient, path: str, named: str) -> None:
    answer = await queries.get(path)
    assert answer.status_code in (400, 422)
    assert named in answer.text


async def test_tokens_guard_all_but_the_health_pages(history: str) -> None:
    live_api = application(history, tokens="first, second", max_spans=100)
    transport = httpx.ASGITransport(live_api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/healthz")).status_code == 200
        for header in ("", "Bearer third", "Basic first", "Bearer first,second"):
            answer = await client.get("/openapi.json", headers={"Authorization": header})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        for token in ("first", "second"):
            answer = await client.get("/openapi.json", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200


async def test_readiness_names_each_topic_that_is_not_read(queries: httpx.AsyncClient) -> None:
    """This application's feeds were never started."""
    assert (await queries.get("/healthz")).text == "ok\n"
    answer = await queries.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    topics = Topics()
    assert answer.json()["reasons"] == {
        topic: f"no connection to {topic}" for topic in (topics.alerts, topics.traces, topics.windows, topics.silences)
    }


async def test_pages_of_other_origins_may_read_only_where_they_are_named(history: str) -> None:
    named, other = "https://grafana.example.org", "https://evil.example.org"
    ask = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    for origins, origin, allowed in (("", named, False), (named, named, True), (named, other, False)):
        transport = httpx.ASGITransport(application(history, allowed_origins=origins, tokens="one").app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answers = [
                await client.options("/api/v1/services", headers={"Origin": origin, **ask}),
                await client.get("/healthz", headers={"Origin": origin}),
            ]
        for answer in answers:
            assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
            assert "access-control-allow-credentials" not in answer.headers


def test_it_listens_on_loopback_without_cors_unless_told_otherwise() -> None:
    settings = LiveApiSettings()
    assert (settings.host, settings.origins, settings.all_tokens) == ("127.0.0.1", [], [])


async def test_absent_database_is_503_and_said(history: str) -> None:
    live_api = application(history.rpartition("/")[0] + "/no_such_database")
    live_api.database.open()
    transport = httpx.ASGITransport(live_api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = await client.get("/api/v1/services", timeout=30)
        assert answer.status_code == 503
        assert "PostgreSQL does not answer" in answer.json()["detail"]
    live_api.database.close()


async def test_query_that_takes_too_long_is_503_and_says_what_to_do(history: str) -> None:
    live_api = application(history, query_timeout_s=0.001)
    live_api.database.open()
    transport = httpx.ASGITransport(live_api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for _ in range(50):
            answer = await client.get("/api/v1/traces", params={**AROUND_NOON, "operation": "get"})
            if answer.status_code == 503:
                break
        assert answer.status_code == 503
        assert "shorter time range" in answer.json()["detail"]
    live_api.database.close()
