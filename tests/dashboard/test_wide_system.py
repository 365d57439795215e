"""A hundred services at the browser: their graph can be read, and the own time of one is shown as evidence."""

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import PATIENCE_MS, Dashboard, Viewer, running_dashboard
from tests.dashboard.shop import SECOND, MadeSpan, Shop
from tests.services import PostgresServer

SERVICES = 100
MS = 1_000_000
SLOW = "service-42"
#: A label of fewer pixels is not read by anyone.
READABLE_PX = 8


def request_through_all(shop: Shop, start: int, *, slow: bool) -> list[MadeSpan]:
    """One trace in which every service calls two others."""
    spans: list[MadeSpan] = []

    def run(number: int, parent: MadeSpan | None, at: int) -> MadeSpan:
        name, depth = f"service-{number}", parent.depth + 1 if parent else 0
        server = MadeSpan(
            shop.dice.randbytes(8), parent.span_id if parent else None, name, f"work {number}", 2, depth, at
        )
        spans.append(server)
        server.own = (90 if slow and name == SLOW else 3) * MS
        now = at + server.own
        for child in (2 * number + 1, 2 * number + 2):
            if child < SERVICES:
                client = MadeSpan(
                    shop.dice.randbytes(8), server.span_id, name, f"call {child}", 3, depth + 1, now, own=2 * MS
                )
                spans.append(client)
                called = run(child, client, now + MS)
                called.gap = 2 * MS
                client.duration, client.children = called.duration + 2 * MS, [called]
                server.children.append(client)
                now += client.duration
        server.duration = now - at
        return server

    run(0, None, start)
    return spans


@pytest.fixture(scope="module")
def wide(
    postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    """Half an hour of a system of a hundred services, one of which takes long since five minutes."""
    name = f"test_wide_{uuid4().hex[:8]}"
    url = postgres.create_database(name, template=migrated_template)
    shop, until = Shop(), time.time_ns() - 5 * SECOND
    slow_from = until - 300 * SECOND
    for start in range(until - 1800 * SECOND, until - 20 * SECOND, 20 * SECOND):
        shop.add(request_through_all(shop, start, slow=start >= slow_from))
    shop.alarm(slow_from + 20 * SECOND, service=SLOW, operation="", kind="latency_shift", observed=90e6, baseline=3e6)
    shop.write(url)
    log = tmp_path_factory.mktemp("wide") / "dashboard.log"
    with running_dashboard(log, {"TRACEWATCH_DATABASE_URL": url}) as dashboard:
        yield dashboard
    postgres.drop_database(name)


def test_a_hundred_services_can_still_be_told_apart(viewer: Viewer, wide: Dashboard) -> None:
    page = viewer.open(wide.address("service-flow"))
    nodes = page.locator(".node")
    expect(nodes).to_have_count(SERVICES, timeout=PATIENCE_MS)
    boxes = nodes.locator(".body").evaluate_all(
        "nodes => nodes.map(node => { const box = node.getBoundingClientRect();"
        " return [box.left, box.top, box.right, box.bottom] })"
    )
    overlapping = [
        (one, other)
        for one in range(SERVICES)
        for other in range(one)
        if boxes[one][0] < boxes[other][2]
        and boxes[other][0] < boxes[one][2]
        and boxes[one][1] < boxes[other][3]
        and boxes[other][1] < boxes[one][3]
    ]
    assert not overlapping
    heights = page.locator(".node text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height).filter(height => height > 0)"
    )
    assert min(heights) >= READABLE_PX
    page.locator(f".node[data-service={SLOW}] .body").click()
    viewer.wait_for_url(f"service={SLOW}")
    viewer.see("Its calls")


def test_a_latency_shift_shows_the_time_that_it_judged(viewer: Viewer, wide: Dashboard) -> None:
    page = viewer.open(wide.address("alerts", show="history"))
    page.locator(".pick", has_text=SLOW).click()
    viewer.wait_for_url("alert=")
    viewer.see(f"mean own time of {SLOW}, and of the network to it; shaded while it fired")
    lines = page.locator(".js-plotly-plot").first.evaluate(
        "plot => plot.data.map(line => [line.name, Math.min(...line.y.filter(y => y !== null)),"
        " Math.max(...line.y.filter(y => y !== null))])"
    )
    own = next(line for line in lines if line[0] == "own time")
    assert own[2] > 10 * own[1], "the fault stands out of the line"
