"""The dashboard on millions of spans: first paint of each page, and a change of the range and of a page's filter.

    python -m bench dashboard [--spans 5000000] [--hours 24] [--database URL] [--pages Traces,Errors]

Bounds: first paint 2.5 s, filter change 1.5 s. A page counts as painted when all of it is drawn. Every look asks for a
range that was not asked for before, so that no answer is remembered. A database that is named is filled by the first
run and stays, so that the next one looks at once.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import psycopg
from playwright.sync_api import Page, sync_playwright

from bench.dashboard_history import fill
from bench.history import holds_traces
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.process import free_port
from tests import services

FIRST_PAINT_S = 2.5
FILTER_CHANGE_S = 1.5
ROUNDS = 3
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Look:
    """A page, its address, and its filter as a person changes it."""

    name: str
    path: str
    change: Callable[[Page], None]


def main() -> None:
    """Seed, start, look, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=5_000_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--database", default="", help="a database that keeps the history, instead of one thrown away")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--pages", default="", help="titles of the pages to look at, by commas (all)")
    asked = parser.parse_args()
    with ExitStack() as stack:
        url = asked.database or new_database(stack)
        services.migrate(url)
        if not holds_traces(url):
            began = time.monotonic()
            fill(url, asked.spans, asked.hours)
            print(f"made in {time.monotonic() - began:.0f} s")
        with psycopg.connect(url) as connection:
            spans, newest = connection.execute("SELECT sum(span_count), max(start_time) FROM traces").fetchone() or ()
        print(f"{int(spans):,} spans, looked at over {asked.hours} h")
        dashboard = running_dashboard(stack, url)
        looks = [each for each in LOOKS if not asked.pages or each.name in asked.pages.split(",")]
        look(dashboard, newest, timedelta(hours=asked.hours), asked.rounds, looks)


def new_database(stack: ExitStack) -> str:
    """A PostgreSQL of its own, thrown away at the end; its URL."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return stack.enter_context(EmbeddedPostgres(log_path=folder / "postgres.log")).url


def running_dashboard(stack: ExitStack, database: str) -> str:
    """``python -m dashboard``, ready; its URL. No other room runs: their absence is said at once."""
    port = free_port()
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_DASHBOARD_PORT": str(port),
        **{f"TRACEWATCH_DASHBOARD_{room}_URL": nobody for room in ("LIVE_API", "STREAM", "SINK")},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait, 30)
    stack.callback(process.send_signal, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the dashboard does not answer")


def look(url: str, newest: datetime, length: timedelta, rounds: int, looks: Sequence[Look]) -> None:
    """Print each page's times: the median of some rounds."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        # The browser's own cache, as on any second visit.
        for path in ("", "performance", "errors"):
            painted(page, address(url, path, newest, timedelta(minutes=5)))
        print(f"{'page':<14}{'first paint':>13}{'bound':>8}{'filter':>10}{'range':>10}{'bound':>8}")
        for each in looks:
            firsts, filters, ranges = [], [], []
            for number in range(rounds):
                end = newest - timedelta(seconds=number)
                firsts.append(painted(page, address(url, each.path, end, length)))
                filters.append(timed(page, each.change))
                ranges.append(timed(page, lambda page: page.get_by_role("radio", name="24h").click()))
            first, changed, moved = median(firsts), median(filters), median(ranges)
            print(
                f"{each.name:<14}{first:>11.2f} s{FIRST_PAINT_S:>6} s{changed:>8.2f} s{moved:>8.2f} s"
                f"{FILTER_CHANGE_S:>6} s",
                flush=True,
            )
        browser.close()


def address(url: str, path: str, end: datetime, length: timedelta) -> str:
    """The address of a page that shows the range of ``length`` until ``end``."""
    first, last = (at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in (end - length, end))
    return f"{url}/{path}{'&' if '?' in path else '?'}from={first}&to={last}"


def painted(page: Page, address: str) -> float:
    """Seconds from asking for an address until its page is drawn whole."""
    began = time.monotonic()
    page.goto(address)
    page.wait_for_selector(".page-title")
    settled(page)
    return time.monotonic() - began


def timed(page: Page, change: Callable[[Page], None]) -> float:
    """Seconds from a change until the page is drawn whole again."""
    began = time.monotonic()
    change(page)
    settled(page)
    return time.monotonic() - began


def settled(page: Page) -> None:
    page.wait_for_timeout(60)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_selector('[data-stale="true"]', state="detached")


def select(label: str, option: str) -> Callable[[Page], None]:
    """Choose an option of a select box, as by typing it."""

    def change(page: Page) -> None:
        box = page.get_by_role("combobox", name=label)
        box.fill(option)
        box.press("Enter")

    return change


LOOKS = (
    Look("Overview", "", lambda page: page.get_by_role("radio", name="6h").click()),
    Look("Service flow", "service-flow", select("Service", "checkout-eu")),
    Look("Traces", "traces", select("Service", "checkout-eu")),
    Look("Performance", "performance", select("Service", "checkout-eu")),
    Look("Errors", "errors", select("Service", "payment-eu")),
    Look("Alerts", "alerts?show=history", select("Service", "payment-eu")),
    Look("Pipeline", "pipeline", lambda page: page.get_by_role("radio", name="6h").click()),
)


if __name__ == "__main__":
    main()
