"""``python -m tests.dashboard.walk``: a person without a terminal finds a fault of the demo shop, in three clicks.

Starts the demo, makes a service of it fail, opens Overview in Chromium and follows what it shows; every step is a
picture in docs/screenshots. Fails where a step does not name the faulty service.
"""

import signal
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import sync_playwright

from quickstart.process import free_port
from tests.dashboard.conftest import Viewer, answers, chromium
from tests.dashboard.take_screenshots import FOLDER, save
from tests.services import ROOT

FAULTY = "yahoo_finance_proxy"
#: The shop is well for so long, then fails for so long before anybody looks.
WELL_S, FAILING_S = 60, 20
HEIGHTS = 900, 1300


def main() -> int:
    """Start, break, walk."""
    with tempfile.TemporaryDirectory(prefix="tracewatch-walk-") as folder:
        port = free_port()
        options = ["--no-faults", "--run-dir", folder, "--dashboard-port", str(port)]
        demo = subprocess.Popen([sys.executable, "-m", "quickstart", "demo", *options], cwd=ROOT)
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 120
            while not answers(f"{url}/healthz"):
                assert demo.poll() is None and time.monotonic() < deadline, "the demo did not start"
                time.sleep(0.5)
            time.sleep(WELL_S)
            fault = ["fault", "errors", "--service", FAULTY, "--for", "150", "--run-dir", folder]
            subprocess.run([sys.executable, "-m", "quickstart", *fault], cwd=ROOT, check=True)
            time.sleep(FAILING_S)
            walk(url)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    return 0


def walk(url: str) -> None:
    """Three clicks from Overview to the trace that says where the error began."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        person = Viewer(browser.new_context(viewport={"width": 1440, "height": 900}, timezone_id="Europe/Berlin"))
        page = person.open(f"{url}/?range=5m")
        page.locator(".card.bad").first.wait_for()
        person.settle()
        worst = page.locator(".card").first
        assert worst.get_attribute("data-service") == FAULTY, "Overview does not begin with the faulty service"
        save(page, FOLDER / "walk-1-overview.png", 1440, *HEIGHTS)
        worst.click()
        person.wait_for_url(f"service={FAULTY}")
        page.locator(".node.selected").wait_for()
        person.settle()
        save(page, FOLDER / "walk-2-service-flow.png", 1440, *HEIGHTS)
        page.get_by_role("link", name="Its failed traces").click()
        person.wait_for_url("status=error")
        page.locator("button.trace").first.wait_for()
        person.settle()
        save(page, FOLDER / "walk-3-traces.png", 1440, *HEIGHTS)
        page.locator("button.trace").first.click()
        person.see("Error began in")
        person.settle()
        assert FAULTY in person.text().partition("Error began in")[2][:40]
        save(page, FOLDER / "walk-4-trace.png", 1440, *HEIGHTS)
        browser.close()
    assert person.script_errors == []


if __name__ == "__main__":
    sys.exit(main())
