"""``python -m dashboard``: serves until SIGTERM or Ctrl-C, then exits 0. /healthz says whether it lives."""

import logging
import os
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
    # First of all: importing and warming up takes seconds, in which whoever started us may think better of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        start_logging(read(LogSettings), "dashboard")
        settings = read(DashboardSettings)
        read(DatabaseSettings)
    except InvalidSetting as error:
        logging.getLogger("dashboard").error("%s", error)
        return 2
    # After the settings: importing Streamlit takes a second that a wrong setting should not cost.
    from dashboard.server import serve

    return serve(settings, Path(__file__).with_name("app.py"))


def _end(number: int, frame: FrameType | None) -> None:
    """End as asked: during the start, when nothing is open; and when uvicorn, done, raises its signal again.

    At once, since an exception could be caught by whatever is being imported.
    """
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
