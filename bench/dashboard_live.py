"""How soon a new alert is on the Alerts page: from Kafka through live_api into Chromium, nothing reloaded.

    python -m bench dashboard_live [--alerts 20]

Bound: 1 s, from the producer's acknowledgement to the row on the page.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

from quickstart.embedded_broker import EmbeddedBroker
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.process import free_port
from tests import services
from tests.dashboard.conftest import Viewer, answers, chromium, running_dashboard
from tests.dashboard.test_live_alerts import alert, publish
from tests.services import ROOT, KafkaServer
from tracecore.topics import Topics

BOUND_S = 1.0


def main() -> None:
    """Start broker, database, live_api and dashboard; raise alerts; print how long they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=20)
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedBroker(log_path=folder / "broker.log"))
        database = stack.enter_context(EmbeddedPostgres(log_path=folder / "postgres.log")).url
        services.migrate(database)
        kafka = KafkaServer(broker.bootstrap_servers, "embedded")
        topics = Topics()
        for spec in topics.specs():
            services.create_topic(kafka.bootstrap_servers, spec.name, 1, dict(spec.config))
        live_api = started_live_api(stack, kafka, database)
        environment = {"TRACEWATCH_DATABASE_URL": database, "TRACEWATCH_DASHBOARD_LIVE_API_URL": live_api}
        dashboard = stack.enter_context(running_dashboard(folder / "dashboard.log", environment))
        took = raised(dashboard.address("alerts"), kafka, topics, asked.alerts)
    took.sort()
    print(f"{len(took)} alerts, each on the page after a median of {median(took):.2f} s, at most {took[-1]:.2f} s;")
    print(f"bound {BOUND_S:g} s")


def started_live_api(stack: ExitStack, kafka: KafkaServer, database: str) -> str:
    """``python -m live_api``, ready; its URL."""
    port = free_port()
    environment = {
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_LIVE_API_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "live_api"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    deadline = time.monotonic() + 60
    while not answers(f"http://127.0.0.1:{port}/readyz"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("live_api does not answer")
        time.sleep(0.1)
    return f"http://127.0.0.1:{port}"


def raised(address: str, kafka: KafkaServer, topics: Topics, count: int) -> list[float]:
    """Seconds from acknowledgement to row, of ``count`` alerts one after the other, each resolved before the next."""
    took = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        person = Viewer(browser.new_context())
        page = person.open(address)
        page.wait_for_selector('.live[data-connection="live"]')
        for number in range(count):
            began = time.time_ns()
            publish(kafka, topics.alerts, alert("firing", began))
            acknowledged = time.monotonic()
            page.get_by_text("1 firing").wait_for()
            took.append(time.monotonic() - acknowledged)
            publish(kafka, topics.alerts, alert("resolved", began))
            page.get_by_text("0 firing").wait_for()
            time.sleep(0.1 + number % 5 * 0.1)  # the page looks twice a second: meet it at every moment
        browser.close()
    return took


if __name__ == "__main__":
    main()
