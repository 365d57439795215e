"""``python -m dashboard``: serves until SIGTERM or Ctrl-C, then exits 0. /healthz says whether it lives."""

import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from dashboard.settings import DashboardSettings
from tracecore.errors import InvalidSetting
from tracecore.logs import start_logging
from tracecore.settings import DatabaseSettings, LogSettings, read


def main() -> int:
    """Read the settings, configure Streamlit, serve."""
    try:
        start_logging(read(LogSettings), "dashboard")
        settings = read(DashboardSettings)
        read(DatabaseSettings)
    except InvalidSetting as error:
        logging.getLogger("dashboard").error("%s", error)
        return 2
    # After the settings: importing Streamlit takes a second that a wrong setting should not cost.
    from dashboard.server import serve

    # uvicorn ends in order and then raises the signal again, to whoever handled it before: nobody else needs to act.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _noted)
    return serve(settings, Path(__file__).with_name("app.py"))


def _noted(number: int, frame: FrameType | None) -> None:
    """Ended as asked."""


if __name__ == "__main__":
    sys.exit(main())
