"""Every page and control, as a person uses them: in Chromium, on a history in PostgreSQL, by a read-only role."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from replay.backtest import Episode, difference
from replay.backtest_results import Result, keep
from replay.stretch import Stretch
from tests.dashboard.conftest import MINUTE, PATIENCE_MS, Dashboard, Seeded, Viewer, running_dashboard
from tests.dashboard.shop import SECOND, MadeSpan, Shop
from tests.replay.deployment import in_a_loop_of_its_own
from tests.services import PostgresServer
from tracecore.alert import Alert, Evidence, fingerprint

PAGES = {
    "": "Overview",
    "service-flow": "Service flow",
    "traces": "Traces",
    "performance": "Performance",
    "errors": "Errors",
    "alerts": "Alerts",
    "pipeline": "Pipeline",
}


@pytest.mark.parametrize("path", PAGES)
def test_each_page_opens_by_its_address(viewer: Viewer, dashboard: Dashboard, path: str) -> None:
    page = viewer.open(dashboard.address(path))
    assert page.locator(".page-title h1").first.inner_text() == PAGES[path]
    assert page.locator('[data-testid="stException"]').count() == 0


def test_the_range_goes_along_from_page_to_page_and_into_the_address(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("traces"))
    page.get_by_role("radio", name="15m").or_(page.get_by_role("button", name="15m")).first.click()
    viewer.wait_for_url("range=15m")
    viewer.settle()
    page.get_by_role("link", name="Errors").click()
    viewer.wait_for_url("/errors?range=15m")
    viewer.see("Where errors begin")


def test_a_fixed_range_is_shown_on_the_viewers_clock(viewer: Viewer, dashboard: Dashboard, seeded: Seeded) -> None:
    first, last = ((seeded.until - minutes * MINUTE) // 10**6 for minutes in (40, 20))
    page = viewer.open(dashboard.address("traces", **{"from": str(first), "to": str(last)}))
    local = datetime.fromtimestamp(first / 1000, ZoneInfo("Europe/Berlin"))
    assert f"{local:%H:%M}" in page.get_by_test_id("stPopover").first.inner_text()
    assert "300 found" in viewer.text() or re.search(r"(29|30)\d found", viewer.text())


def test_a_service_that_is_marked_says_why(viewer: Viewer, dashboard: Dashboard) -> None:
    marked = viewer.open(dashboard.address()).locator(".card.bad, .card.warn")
    reasons = marked.locator(".reason").all_inner_texts()
    assert reasons and all(reasons), reasons


def test_from_overview_to_the_faulty_service_in_three_clicks(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address())
    worst = page.locator(".card").first
    assert worst.get_attribute("data-service") == "payment"
    worst.click()
    viewer.wait_for_url("service=payment")
    page.get_by_role("link", name="Its failed traces").click()
    viewer.wait_for_url("status=error")
    viewer.settle()
    expect(page.get_by_role("combobox", name="Service")).to_have_value("payment", timeout=PATIENCE_MS)
    expect(page.get_by_role("radio", name="1h")).to_be_checked(timeout=PATIENCE_MS)
    page.locator("button.trace").first.click()
    viewer.see("Error began in")
    assert re.search(r"Error began in\s+payment", viewer.text())


def test_a_node_is_chosen_by_mouse_and_by_keyboard(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("service-flow"))
    page.locator(".node[data-service=checkout] .body").click()
    viewer.wait_for_url("service=checkout")
    viewer.see("Its calls")
    assert page.locator(".node.selected").get_attribute("data-service") == "checkout"
    page.locator(".node[data-service=cart]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    viewer.wait_for_url("service=redis")


def test_the_graph_stands_still_between_two_looks(viewer: Viewer, dashboard: Dashboard) -> None:
    places = []
    for _ in range(2):
        page = viewer.open(dashboard.address("service-flow"))
        page.locator(".node").first.wait_for()
        places.append(page.locator(".node").evaluate_all("nodes => nodes.map(n => n.getAttribute('transform'))"))
    assert places[0] == places[1]
    assert len(places[0]) == 12


def test_yesterday_shows_which_calls_are_slower_and_failing(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("service-flow", range="15m", compare="yesterday"))
    viewer.see("What changed")
    changed = page.locator("tr", has_text="api.bank.example").first.inner_text()
    assert "failing" in changed


def test_traces_are_searched_and_the_address_says_how(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("traces", service="payment", status="error"))
    page.locator("button.trace").nth(5).wait_for()
    field = page.get_by_label("At least")
    field.fill("5s")
    field.press("Enter")
    viewer.wait_for_url("min=5s")
    viewer.see("No trace matches in this range.")
    field.fill("soon")
    field.press("Enter")
    viewer.see("is no duration")


def test_tags_are_searched(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("traces", tags="peer.service=api.bank.example"))
    assert page.locator("button.trace .title strong").first.inner_text() == "storefront"
    assert set(page.locator("button.trace .operation").all_inner_texts()) == {"POST /checkout"}


def test_a_trace_is_found_by_its_id(viewer: Viewer, dashboard: Dashboard, seeded: Seeded) -> None:
    trace_id = seeded.shop.traces[-1][0].hex()
    page = viewer.open(dashboard.address("traces"))
    field = page.get_by_label("Trace id")
    field.fill("nonsense")
    field.press("Enter")
    viewer.see("That is no trace id.")
    field.fill(f"00-{trace_id}-{'1' * 16}-01")
    field.press("Enter")
    viewer.wait_for_url(f"trace={trace_id}")
    page.locator(".row").first.wait_for()


def failed_trace(seeded: Seeded) -> tuple[str, list[MadeSpan]]:
    trace_id, spans = next(each for each in reversed(seeded.shop.traces) if any(span.failed for span in each[1]))
    return trace_id.hex(), spans


def test_the_timeline_shows_folds_zooms_and_tells_all_about_a_span(
    viewer: Viewer, dashboard: Dashboard, seeded: Seeded
) -> None:
    trace_id, spans = failed_trace(seeded)
    page = viewer.open(dashboard.address("traces", trace=trace_id))
    rows = page.locator(".row")
    rows.first.wait_for()
    expect(rows).to_have_count(len(spans), timeout=PATIENCE_MS)
    page.locator(".critical").nth(5).wait_for(state="attached")
    page.locator(".collapse").click()
    expect(rows).to_have_count(2, timeout=PATIENCE_MS)
    page.locator(".expand").click()
    page.locator(".failure").click()
    viewer.wait_for_url("span=")
    viewer.see("exception.message")
    assert "no answer within 300 ms" in viewer.text()
    assert page.locator(".row.selected .mark").inner_text() == "■ origin"
    page.locator(".rows").focus()
    page.keyboard.press("+")
    assert page.locator(".band").is_visible()
    page.keyboard.press("0")
    assert not page.locator(".band").is_visible()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(rows).to_have_count(1, timeout=PATIENCE_MS)


def test_a_link_to_a_span_opens_that_span(viewer: Viewer, dashboard: Dashboard, seeded: Seeded) -> None:
    trace_id, spans = failed_trace(seeded)
    page = viewer.open(dashboard.address("traces", trace=trace_id, span=spans[-2].span_id.hex()))
    page.locator(".row.selected").wait_for()
    viewer.see("Resource and ids")


def test_a_trace_that_is_not_there_says_why(viewer: Viewer, dashboard: Dashboard) -> None:
    viewer.open(dashboard.address("traces", trace="ab" * 16))
    viewer.see("is not stored")


def test_two_traces_are_compared(viewer: Viewer, dashboard: Dashboard, seeded: Seeded) -> None:
    trace_id, _ = failed_trace(seeded)
    page = viewer.open(dashboard.address("traces", trace=trace_id))
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="with a typical one").click()
    viewer.wait_for_url("compare=")
    viewer.see("Own time here")
    expect(page.locator(".timeline")).to_have_count(2, timeout=PATIENCE_MS)


def test_a_trace_is_downloaded_as_otlp_and_as_jaeger_json(viewer: Viewer, dashboard: Dashboard, seeded: Seeded) -> None:
    trace_id, spans = failed_trace(seeded)
    page = viewer.open(dashboard.address("traces", trace=trace_id))
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as otlp:
        page.get_by_role("button", name="OTLP JSON").click()
    document = json.loads(Path(otlp.value.path()).read_text())
    sent = [span for group in document["resourceSpans"] for scope in group["scopeSpans"] for span in scope["spans"]]
    assert {span["spanId"] for span in sent} == {span.span_id.hex() for span in spans}
    assert {span["traceId"] for span in sent} == {trace_id}
    with page.expect_download() as jaeger:
        page.get_by_role("button", name="Jaeger JSON").click()
    trace = json.loads(Path(jaeger.value.path()).read_text())["data"][0]
    assert len(trace["spans"]) == len(spans)
    assert {process["serviceName"] for process in trace["processes"].values()} == {span.service for span in spans}


def test_performance_of_one_operation(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("performance", service="payment", operation="charge", compare="yesterday"))
    expect(page.locator(".js-plotly-plot")).to_have_count(4, timeout=PATIENCE_MS)
    assert "payment · charge" in viewer.text()
    bottleneck = page.locator("table.plain tr", has_text="POST api.bank.example").inner_text()
    assert "points" in bottleneck
    page.locator(".pick", has_text="POST api.bank.example").focus()
    page.keyboard.press("Enter")
    viewer.wait_for_url("operation=POST")


def test_a_table_is_sorted_by_its_headings(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("performance", service="checkout"))
    rows = page.locator(".pick .main")
    rows.first.wait_for()
    by_p95 = rows.all_inner_texts()
    page.locator(".head", has_text="Operation").click()
    assert rows.all_inner_texts() == sorted(by_p95, reverse=False) != by_p95
    page.locator(".head", has_text="Operation").click()
    assert rows.all_inner_texts() == sorted(by_p95, reverse=True)


def test_a_custom_range_is_chosen_and_stands_in_the_address(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("errors", range="6h", service="payment"))
    page.get_by_role("button", name="Custom").click()
    page.get_by_role("button", name="Show this range").click()
    viewer.wait_for_url("from=20")
    address = page.url
    assert "range=" not in address
    assert "service=payment" in address
    again = viewer.open(address)
    assert " to " in again.get_by_test_id("stPopover").first.inner_text()
    page.get_by_role("radio", name="15m").click()
    viewer.wait_for_url("range=15m")
    # The old range may stand beside the new one for a moment.
    page.wait_for_function("() => !location.href.includes('from=')")


def test_a_span_leads_to_the_distribution_of_its_operation(
    viewer: Viewer, dashboard: Dashboard, seeded: Seeded
) -> None:
    trace_id, spans = failed_trace(seeded)
    page = viewer.open(dashboard.address("traces", trace=trace_id, span=spans[0].span_id.hex()))
    page.get_by_role("link", name="How long it usually takes").click()
    viewer.wait_for_url(f"/performance?range=1h&service={spans[0].service}&operation=")
    viewer.see("Distribution")


def test_a_replay_and_a_back_test_are_shown_with_what_came_of_them(
    viewer: Viewer, dashboard: Dashboard, seeded: Seeded
) -> None:
    with psycopg.connect(seeded.url) as connection:
        connection.execute(
            "INSERT INTO replays (replay_id, name, source, request, state, records, spans, traces_new,"
            " traces_amended, traces_unchanged, alerts)"
            " VALUES ('r1', 'friday', 'topic:spans', '{}', 'done', 918, 60000, 12, 3, 80221, 2)"
        )
    in_a_loop_of_its_own(
        keep(
            seeded.url,
            Result(
                "b1",
                "<i>strict.yml",
                "otlp:day.otlp.zst",
                Stretch(seeded.fault_from, seeded.until),
                difference([tried("LatencyShift", 0), tried("SlowSpans", 60)], [tried("LatencyShift", 5)]),
                "2 of 2 faults recalled",
                "1 of 2 faults recalled",
            ),
        )
    )
    page = viewer.open(dashboard.address("alerts", show="replays"))
    text = viewer.text()
    assert "Replay friday" in text
    assert re.search(r"New traces\s+12", text)
    assert "Back-test of <i>strict.yml" in text
    assert re.search(r"Only under these\s+1", text)
    assert "2 of 2 faults recalled" in text
    row = page.locator("tr", has_text="SlowSpans").inner_text()
    assert "only these rules" in row
    assert "410 ms, usually 52 ms" in row
    assert "both" in page.locator("tr", has_text="LatencyShift").inner_text()


def tried(name: str, starts_s: int) -> Episode:
    labels = {"alertname": name, "service": "payment", "operation": "charge", "severity": "critical"}
    starts_ns = time.time_ns() // SECOND * SECOND - 3600 * SECOND + starts_s * SECOND
    evidence = Evidence(410e6, 52e6, "ns", 57, ())
    alert = Alert(fingerprint(labels), "firing", labels, {}, starts_ns, starts_ns, None, starts_ns, evidence)
    return Episode(alert, starts_ns + 120 * SECOND)


def test_an_error_group_leads_to_its_traces(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("errors"))
    assert "1 new kind" in viewer.text()
    page.locator(".pick", has_text="BankTimeout in payment").click()
    viewer.wait_for_url("group=")
    viewer.see("Services impacted")
    assert re.search(r"Services impacted\s+checkout, storefront", viewer.text())
    page.get_by_role("link", name=re.compile(r"\d m?s$")).first.click()
    viewer.wait_for_url("trace=")


def test_an_alert_of_the_history_shows_its_evidence(viewer: Viewer, dashboard: Dashboard) -> None:
    page = viewer.open(dashboard.address("alerts", show="history"))
    page.locator(".pick", has_text="payment · charge").click()
    viewer.wait_for_url("alert=")
    viewer.see("shaded while it fired")
    assert "usually 52 ms" in viewer.text()
    page.locator(".js-plotly-plot .shapelayer path").first.wait_for(state="attached")
    page.get_by_role("link", name="Sample trace 1").click()
    viewer.wait_for_url("trace=")


def test_an_absent_feed_and_absent_rooms_are_said_in_words(viewer: Viewer, dashboard: Dashboard) -> None:
    viewer.open(dashboard.address("alerts"))
    viewer.see("The alert feed does not answer.")
    viewer.open(dashboard.address("pipeline"))
    viewer.see("With care")
    assert "TRACEWATCH_DASHBOARD_SINK_URL" in viewer.text()


@pytest.mark.parametrize("path", PAGES)
def test_an_empty_database_says_how_to_get_data(viewer: Viewer, empty_dashboard: Dashboard, path: str) -> None:
    viewer.open(empty_dashboard.address(path))
    if path == "alerts":
        viewer.see("The alert feed does not answer.")
    else:
        viewer.see("There are no traces yet.")
        assert "python -m quickstart demo" in viewer.text()


def test_a_database_without_tables_or_out_of_reach_is_a_sentence(
    viewer: Viewer, empty_database: str, start_dashboard: Callable[..., Dashboard]
) -> None:
    viewer.open(start_dashboard(empty_database).address("service-flow"))
    assert "python -m migrations up" in viewer.text()
    viewer.open(start_dashboard("postgresql://nobody@127.0.0.1:1/none").address("traces"))
    assert "The database does not answer." in viewer.text()
    assert "Traceback" not in viewer.text()


HOSTILE = (
    "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>",
    "**bold** [link](javascript:window.hacked=1) %{x} $\\alpha$ :red[x]",
)


def test_names_from_spans_stay_names(viewer: Viewer, hostile_dashboard: tuple[Dashboard, str]) -> None:
    dashboard, trace_id = hostile_dashboard
    for path, params in {
        "": {},
        "service-flow": {"service": HOSTILE[0]},
        "traces": {},
        "performance": {"service": HOSTILE[0]},
        "errors": {},
        "alerts": {"show": "history"},
    }.items():
        page = viewer.open(dashboard.address(path, **params))
        page.wait_for_timeout(300)  # an image that does not load tells its handler so
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("strong", has_text=re.compile("^bold$")).count() == 0
    page = viewer.open(dashboard.address("traces", trace=trace_id))
    page.locator(".row").first.click()
    viewer.see("Resource and ids")
    assert page.evaluate("window.hacked") is None
    assert HOSTILE[0] in page.locator(".row .service").first.inner_text()


def test_five_thousand_spans_are_one_usable_timeline(viewer: Viewer, hostile_dashboard: tuple[Dashboard, str]) -> None:
    dashboard, _ = hostile_dashboard
    page = viewer.open(dashboard.address("traces", order="spans"))
    page.locator("button.trace").first.click()
    page.locator(".row").first.wait_for()
    rows = page.locator(".rows")
    assert rows.get_attribute("aria-rowcount") == "5000"
    assert page.locator(".row").count() < 80, "only what is in sight is drawn"
    rows.focus()
    painted = page.evaluate(
        """async () => {
            const find = (root) => root.querySelector(".rows")
                ?? [...root.querySelectorAll("*")].map((e) => e.shadowRoot && find(e.shadowRoot)).find(Boolean);
            const rows = find(document);
            const start = performance.now();
            for (let at = 0; at < 60; at++) {
                rows.scrollTop = at * 2000;
                await new Promise(requestAnimationFrame);
            }
            return (performance.now() - start) / 60;
        }"""
    )
    assert painted < 250, f"a frame took {painted:.0f} ms"
    page.keyboard.press("End")
    assert page.locator(".row.active").get_attribute("id") == "span-4999"
    page.locator(".search").fill("step 42")
    viewer.see("11 found")


def test_a_phone_shows_every_page_without_scrolling_sideways(browser: Browser, dashboard: Dashboard) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    phone = Viewer(context)
    for path in PAGES:
        page = phone.open(dashboard.address(path))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()
    assert phone.script_errors == []


@pytest.fixture(scope="module")
def empty_dashboard(
    postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    url = postgres.create_database("test_dashboard_empty", template=migrated_template)
    log = tmp_path_factory.mktemp("empty") / "dashboard.log"
    with running_dashboard(log, {"TRACEWATCH_DATABASE_URL": url}) as running:
        yield running
    postgres.drop_database("test_dashboard_empty")


@pytest.fixture(scope="module")
def hostile_dashboard(
    postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Dashboard, str]]:
    url = postgres.create_database("test_dashboard_hostile", template=migrated_template)
    now = time.time_ns() - 60 * SECOND
    shop = Shop(seed=3)
    for index in range(40):
        start = now - index * 20 * SECOND
        root = MadeSpan(shop.dice.randbytes(8), None, HOSTILE[0], HOSTILE[1], 2, 0, start, 50_000_000, 10_000_000)
        child = MadeSpan(
            shop.dice.randbytes(8), root.span_id, HOSTILE[0], "call", 3, 1, start, 40_000_000, 40_000_000, failed=True
        )
        child.peer = (HOSTILE[1], "external")
        root.children, root.failed = [child], True
        trace_id = shop.add([root, child])
    shop.alarm(now - 60 * SECOND, service=HOSTILE[0], operation=HOSTILE[1], summary=HOSTILE[0], name=HOSTILE[1])
    big = MadeSpan(shop.dice.randbytes(8), None, "batch", "run", 1, 0, now, 5_000_000_000, 1_000_000)
    spans = [big]
    for index in range(4999):
        parent = spans[max(0, len(spans) - 1 - index % 7)] if index % 11 else big
        depth = parent.depth + 1 if parent.depth < 40 else 1
        step = MadeSpan(
            shop.dice.randbytes(8),
            (parent if depth > 1 else big).span_id,
            f"worker-{index % 9}",
            f"step {index}",
            1,
            depth,
            now + index * 1_000_000,
            900_000 + index % 13 * 300_000,
            900_000,
        )
        spans.append(step)
    shop.add(spans)
    shop.write(url)
    log = tmp_path_factory.mktemp("hostile") / "dashboard.log"
    with running_dashboard(log, {"TRACEWATCH_DATABASE_URL": url}) as running:
        yield running, trace_id.hex()
    postgres.drop_database("test_dashboard_hostile")
