"""``python -m tests.dashboard.take_screenshots``: the pictures of docs/screenshots.

Each page at 1440 and 390 pixels, on a stretch of the recording tt29 that came through Kafka, stream and sink; few
colours, so that the pictures stay small. With ``--database URL`` on a history that is there already. The page of the
pipeline is that of ``make demo``, whose rooms answer: it is taken by ``--dashboard URL --only pipeline`` meanwhile.
"""

import argparse
import io
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests import services
from tests.dashboard.conftest import Viewer, chromium, running_dashboard
from tests.dashboard.recording import TT29, fill

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
#: Least and most height of a picture, by width.
WIDTHS = {1440: (900, 1500), 390: (844, 1700)}
#: Page, address, what to click, and what shows that it is drawn.
PAGES = {
    "overview": ("?range={range}", "", ".card"),
    "service-flow": ("service-flow?range={range}", "", ".node"),
    "service-flow-compared": ("service-flow?range=5m&compare=before&service={service}", "", ".node.selected"),
    "traces": ("traces?range={range}&order=slowest", "", "button.trace"),
    "trace": ("traces?range={range}&trace={trace_id}", ".failure", ".row.selected"),
    "performance": ("performance?range={range}&service={service}", "", ".js-plotly-plot"),
    "errors": ("errors?range={range}", ".pick", ".pick.selected"),
    "alerts": ("alerts?range={range}&show=history", ".pick", ".pick.selected"),
    "pipeline": ("pipeline?range={range}", "", ".js-plotly-plot"),
}
#: Shown in dark.
DARK = ("trace", "alerts", "performance")
RANGE = "1h"


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default="")
    parser.add_argument("--dashboard", default="", help="one that runs: for pages that need no trace of a recording")
    parser.add_argument("--only", nargs="*", default=[name for name in PAGES if name != "pipeline"])
    asked = parser.parse_args()
    if asked.dashboard:
        take(asked.dashboard.rstrip("/"), asked.only, {"trace_id": "", "service": "", "range": "15m"})
        return
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracewatch-pictures-")))
        database = asked.database
        if not database:
            postgres = stack.enter_context(services.postgres_server(logs))
            database = postgres.create_database("screenshots")
            services.migrate(database)
            kafka = stack.enter_context(services.kafka_server(logs))
            fill(database, kafka, logs, services.SHARED_DATA / "tt29.otlp.zst", *TT29)
        log = logs / "screenshots-dashboard.log"
        dashboard = stack.enter_context(running_dashboard(log, {"TRACEWATCH_DATABASE_URL": database}))
        trace_id, service = a_failed_trace(database)
        take(dashboard.url, asked.only, {"trace_id": trace_id, "service": service, "range": RANGE})


def a_failed_trace(database: str) -> tuple[str, str]:
    """The largest of the newest failed traces, and the service in which it failed."""
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT encode(trace_id, 'hex'), error_service FROM"
            " (SELECT * FROM traces WHERE error_count > 0 ORDER BY start_time DESC LIMIT 50) AS newest"
            " ORDER BY span_count DESC LIMIT 1"
        ).fetchone()
    assert row, "no trace of this history failed"
    return row[0], row[1]


def take(url: str, names: list[str], values: dict[str, str]) -> None:
    """Take the pictures of some pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium())
        for width, (low, high) in WIDTHS.items():
            for name in names:
                address, click, shows = PAGES[name]
                context = browser.new_context(
                    viewport={"width": width, "height": low},
                    color_scheme="dark" if name in DARK else "light",
                    timezone_id="Europe/Berlin",
                )
                person = Viewer(context)
                page = person.open(f"{url}/{address.format(**values)}")
                if click:
                    page.locator(click).first.click()
                page.locator(shows).first.wait_for()
                person.settle()
                save(page, FOLDER / f"{name}-{width}.png", width, low, high)
                context.close()
        browser.close()


def save(page: Page, path: Path, width: int, low: int, high: int) -> None:
    """A picture of the page, as tall as it is within bounds."""
    tall = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(tall + 16, low), high)})
    page.wait_for_timeout(900)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
