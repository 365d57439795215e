"""A dashboard of the session's own on a made-up shop's history, and a browser to look at it."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from quickstart.process import free_port
from tests.dashboard.shop import SECOND, Shop
from tests.services import ROOT, PostgresServer

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: Nothing takes this long; two cores that a whole test session shares may.
PATIENCE_MS = 120_000

_IS_STILL = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    const isRunning = !app || app.dataset.testScriptState !== "notRunning";
    if (isRunning || document.querySelector('[data-stale="true"]')) {
        window.stillSince = undefined;
        return false;
    }
    window.stillSince ??= performance.now();
    return performance.now() - window.stillSince > 500;
}"""


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard."""

    url: str
    process: subprocess.Popen[bytes]

    def address(self, path: str = "", **params: str) -> str:
        return f"{self.url}/{path}{'?' + urlencode(params) if params else ''}"


@contextmanager
def running_dashboard(log: Path, environment: dict[str, str]) -> Iterator[Dashboard]:
    """``python -m dashboard`` on a free port, ready; ended by SIGTERM."""
    port = free_port()
    known = {
        "TRACEWATCH_DASHBOARD_PORT": str(port),
        # Nobody listens there unless a test says otherwise.
        "TRACEWATCH_DASHBOARD_LIVE_API_URL": f"http://127.0.0.1:{free_port()}",
        "TRACEWATCH_DASHBOARD_STREAM_URL": f"http://127.0.0.1:{free_port()}",
        "TRACEWATCH_DASHBOARD_SINK_URL": f"http://127.0.0.1:{free_port()}",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard"],
            cwd=ROOT,
            env={**os.environ, **known, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not answers(f"{url}/healthz"):
            assert process.poll() is None, f"the dashboard ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"the dashboard does not answer:\n{log.read_text()}"
            time.sleep(0.1)
        yield Dashboard(url, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass(frozen=True)
class Seeded:
    """A database with a shop's history. ``fault_from`` is when payment went bad; ``until`` the end of it all."""

    url: str
    fault_from: int
    until: int
    shop: Shop


@pytest.fixture(scope="package")
def seeded(postgres: PostgresServer, migrated_template: str) -> Iterator[Seeded]:
    """Two hours of the shop today, half an hour yesterday; payment is slow and fails since a quarter of an hour."""
    name = f"test_dashboard_{uuid4().hex[:8]}"
    url = postgres.create_database(name, template=migrated_template)
    until = time.time_ns() - 5 * SECOND
    fault_from = until - 15 * MINUTE
    shop = (
        Shop().trade(until - DAY - HOUR // 2, until - DAY, 300).trade(until - HOUR, until, 900, fault_from=fault_from)
    )
    shop.alarm(fault_from + 20 * SECOND)
    shop.alarm(
        until - 50 * MINUTE,
        until - 40 * MINUTE,
        name="TrafficDrop",
        service="ads",
        operation="pick",
        severity="warning",
        unit="1/s",
        observed=0.02,
        baseline=0.2,
        summary="ads is called ten times less than usual",
    )
    shop.judge(until - 20 * SECOND, {"payment": (22, "charge takes 9 times as long"), "catalog": (100, "")})
    shop.write(url)
    yield Seeded(url, fault_from, until, shop)
    postgres.drop_database(name)


@pytest.fixture(scope="package")
def reader(seeded: Seeded) -> str:
    """The seeded database by a role that may read it and nothing else."""
    name = f"reader_{uuid4().hex[:8]}"
    with psycopg.connect(seeded.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'readonly' IN ROLE tracewatch_reader")
    return psycopg.conninfo.make_conninfo(seeded.url, user=name, password="readonly")


@pytest.fixture(scope="package")
def dashboard(reader: str, server_logs: Path) -> Iterator[Dashboard]:
    """The dashboard on the seeded database, by a read-only role."""
    log = server_logs / "dashboard.log"
    with running_dashboard(log, {"TRACEWATCH_DATABASE_URL": reader}) as running:
        yield running


@pytest.fixture
def start_dashboard(server_logs: Path) -> Iterator[Callable[..., Dashboard]]:
    """``start_dashboard(database_url, **environment)``: a dashboard of the test's own."""
    with ExitStack() as stack:

        def start(database_url: str, **environment: str) -> Dashboard:
            log = server_logs / f"dashboard-{uuid4().hex[:6]}.log"
            running = running_dashboard(log, {"TRACEWATCH_DATABASE_URL": database_url, **environment})
            return stack.enter_context(running)

        yield start


def chromium() -> dict[str, Any]:
    """How Playwright launches Debian's Chromium; ``executable_path`` is None where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return {"executable_path": path, "args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    options = chromium()
    if options["executable_path"] is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(**options)
        yield started
        started.close()


class Viewer:
    """A person at the browser: opens addresses, waits until a page is quiet, and notes every script error."""

    def __init__(self, context: BrowserContext) -> None:
        context.set_default_timeout(PATIENCE_MS)
        self.page: Page = context.new_page()
        self.script_errors: list[str] = []
        self.page.on("pageerror", lambda error: self.script_errors.append(str(error)))

    def open(self, address: str) -> Page:
        self.page.goto(address)
        self.page.wait_for_selector(".page-title, .notice")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until Streamlit has had nothing to do for a while: one look may fall between two runs."""
        self.page.evaluate("window.stillSince = undefined")
        self.page.wait_for_function(_IS_STILL)

    def text(self) -> str:
        return self.page.locator('[data-testid="stMainBlockContainer"]').inner_text()

    def see(self, text: str) -> Locator:
        """Wait for a text."""
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found

    def wait_for_url(self, part: str) -> None:
        self.page.wait_for_function("part => decodeURIComponent(location.href).includes(part)", arg=part)


@pytest.fixture
def viewer(browser: Browser) -> Iterator[Viewer]:
    """Somebody in Berlin at a wide screen; every script error fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, timezone_id="Europe/Berlin")
    person = Viewer(context)
    yield person
    context.close()
    assert person.script_errors == []
