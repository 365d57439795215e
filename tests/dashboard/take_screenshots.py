"""``python -m tests.dashboard.take_screenshots URL TRACE_ID``: the pictures of docs/screenshots.

Each page at 1440 and 390 pixels; few colours, so that the pictures stay small.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.dashboard.conftest import Viewer

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
WIDTHS = {1440: (900, 1500), 390: (844, 1700)}
PAGES = {
    "overview": "",
    "service-flow": "service-flow?range=15m",
    "service-flow-compared": "service-flow?range=15m&compare=yesterday&service=payment",
    "traces": "traces?order=slowest",
    "trace": "traces?trace={trace_id}",
    "performance": "performance?service=payment&operation=charge",
    "errors": "errors",
    "alerts": "alerts?show=history",
    "pipeline": "pipeline",
}
#: Shown in dark as well, or instead.
DARK = ("trace", "alerts", "performance")


def main(url: str, trace_id: str) -> None:
    """Take them all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        for width, (low, high) in WIDTHS.items():
            for name, address in PAGES.items():
                if (FOLDER / f"{name}-{width}.png").exists():
                    continue  # delete those that are to be taken anew
                context = browser.new_context(
                    viewport={"width": width, "height": low},
                    color_scheme="dark" if name in DARK else "light",
                    timezone_id="Europe/Berlin",
                )
                person = Viewer(context)
                page = person.open(f"{url}/{address.format(trace_id=trace_id)}")
                if name == "trace":
                    page.locator(".failure").click()
                    person.wait_for_url("span=")
                    person.settle()
                if name.startswith("service-flow"):
                    page.locator(".node").first.wait_for()
                if name == "traces":
                    page.locator(".trace").first.wait_for()
                if name in ("errors", "alerts"):
                    page.locator(".pick").first.click()
                    person.wait_for_url("group=" if name == "errors" else "alert=")
                    person.settle()
                save(page, FOLDER / f"{name}-{width}.png", width, low, high)
                context.close()
        browser.close()


def save(page: Page, path: Path, width: int, low: int, high: int) -> None:
    tall = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(tall + 16, low), high)})
    page.wait_for_timeout(900)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
