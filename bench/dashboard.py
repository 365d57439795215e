"""The dashboard on millions of spans: first paint of each page, and a change of the range.

python -m bench dashboard [--spans 5000000] [--hours 24]   (bounds: first paint 2.5 s, filter change 1.5 s)
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

import psycopg
from playwright.sync_api import Page, sync_playwright

from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.process import free_port
from tests.dashboard.shop import SECOND, Shop

FIRST_PAINT_S = 2.5
FILTER_CHANGE_S = 1.5
ROUNDS = 3

PAGES = {
    "Overview": "?range={range}",
    "Service flow": "service-flow?range={range}",
    "Traces": "traces?range={range}",
    "Performance": "performance?range={range}&service=checkout",
    "Errors": "errors?range={range}",
    "Alerts": "alerts?range={range}&show=history",
    "Pipeline": "pipeline?range={range}",
}
#: The tables with a row a trace or span, and which of their columns move along with a copy.
TIMES = {"traces": ("start_time", "spans_from", "spans_until"), "service_traces": ("start_time",)}
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Seed, start, look, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=5_000_000)
    parser.add_argument("--hours", type=float, default=24.0)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(log_path=Path(folder) / "postgres.log") as postgres,
    ):
        environment = {**os.environ, "TRACEWATCH_DATABASE_URL": postgres.url}
        subprocess.run([sys.executable, "-m", "migrations", "up"], cwd=ROOT, env=environment, check=True)
        began = time.monotonic()
        spans = seed(postgres.url, asked.spans, asked.hours)
        print(f"{spans:,} spans over {asked.hours:g} h, made in {time.monotonic() - began:.0f} s")
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard"],
            cwd=ROOT,
            env={**environment, "TRACEWATCH_DASHBOARD_PORT": str(port)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url)
            look(url, "24h" if asked.hours >= 6 else "6h")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def seed(url: str, wanted: int, hours: float) -> int:
    """A shop's history, its traces copied within the database with new ids and times until there are enough spans."""
    now = time.time_ns() - 60 * SECOND
    start = now - int(hours * 3600) * SECOND
    base = Shop().trade(start, now, 2000, fault_from=now - 1800 * SECOND)
    base.alarm(now - 1700 * SECOND)
    base.write(url)
    made = sum(len(spans) for _, spans in base.traces)
    copies = max(0, round(wanted / made) - 1)
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(1, copies + 1):
            mask = random.Random(number).randbytes(16)
            shift_ns = int(hours * 3600 * SECOND / 2000 * number / (copies + 1))
            for table, times in TIMES.items():
                columns = [row[0] for row in connection.execute(COLUMNS, (table,))]
                changed = {name: f"{name} + interval '{shift_ns // 1000} microseconds'" for name in times}
                changed["start_ns"] = f"start_ns + {shift_ns}"
                changed["trace_id"] = _masked(mask)
                chosen = ", ".join(changed.get(name, name) for name in columns)
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(columns)})"
                    f" SELECT {chosen} FROM {table} WHERE trace_id = ANY (%s)",
                    ([trace_id for trace_id, _ in base.traces],),
                )
        for table in ("operation_windows", "operation_minutes", "operation_hours"):
            connection.execute(
                f"UPDATE {table} SET spans = spans * {copies + 1}, count_milli = count_milli * {copies + 1},"
                f" error_milli = error_milli * {copies + 1}"
            )
        connection.execute("VACUUM ANALYZE")
    return made * (copies + 1)


def _masked(mask: bytes) -> str:
    """SQL for a trace id that no other copy has: its first eight bytes are replaced, the rest tells traces apart."""
    return f"decode('{mask[:8].hex()}', 'hex') || substring(trace_id FROM 9 FOR 8)"


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the dashboard does not answer")


def look(url: str, range_name: str) -> None:
    """Print each page's times: the median of some rounds, none of which finds an answer remembered."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        painted(page, f"{url}/?range=5m")  # the browser's own cache, as on any second visit
        print(f"{'page':<14}{'first paint':>13}{'bound':>8}{'filter':>10}{'bound':>8}")
        for name, address in PAGES.items():
            firsts, changes = [], []
            for _ in range(ROUNDS):
                firsts.append(painted(page, f"{url}/{address.format(range=range_name)}"))
                began = time.monotonic()
                preset = page.get_by_role("radio", name="6h").or_(page.get_by_role("button", name="6h"))
                preset.first.click()
                settled(page)
                changes.append(time.monotonic() - began)
                time.sleep(5.1)  # the clock of the range moves in steps of five seconds
            first, change = median(firsts), median(changes)
            print(f"{name:<14}{first:>11.2f} s{FIRST_PAINT_S:>6} s{change:>8.2f} s{FILTER_CHANGE_S:>6} s")
        browser.close()


def painted(page: Page, address: str) -> float:
    """Seconds from asking for an address until its page is drawn whole."""
    began = time.monotonic()
    page.goto(address)
    page.wait_for_selector(".page-title")
    settled(page)
    return time.monotonic() - began


def settled(page: Page) -> None:
    page.wait_for_timeout(60)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_selector('[data-stale="true"]', state="detached")


if __name__ == "__main__":
    main()
