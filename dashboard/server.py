"""The HTTP server: Streamlit as an ASGI application, in its own look, beside a health check."""

import gc
import logging
import socket
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Final

import streamlit as st
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streamlit import config
from streamlit.runtime.pages_manager import PagesManager

from dashboard import pages
from dashboard.figures.charts import figure
from dashboard.figures.palette import DARK, LIGHT, Palette
from dashboard.settings import DashboardSettings

logger = logging.getLogger(__name__)

#: Open pages hold WebSockets; they are not waited for longer than this at the end.
_GOODBYE_S: Final = 2


def serve(settings: DashboardSettings, script: Path) -> int:
    """Serve ``script`` until a signal ends it. Returns the process's exit code."""
    try:
        listener = socket.create_server((settings.host, settings.port))
    except OSError as error:
        logger.error("cannot listen on %s:%d: %s", settings.host, settings.port, error.strerror)
        return 1
    port = listener.getsockname()[1]
    for name, value in _options(settings.host, port).items():
        config.set_option(name, value)
    # Else Streamlit takes our room "pages" for its own kind of pages until st.navigation has run once: the first
    # person to open a link to a page would get its file, run as a script, and see nothing.
    PagesManager.uses_pages_directory = False
    _log_as_the_room_does()
    _warm_up()
    _log_as_the_room_does()
    application = st.App(script, routes=[Route("/healthz", _healthz)])
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            log_config=None,
            timeout_graceful_shutdown=_GOODBYE_S,
            lifespan="on",
        )
    )
    logger.info("the dashboard listens on http://%s:%d", settings.host, port)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _warm_up() -> None:
    """Import what the pages need before the first viewer waits for it: a second or two, once."""
    for page in iter_modules(pages.__path__):
        import_module(f"{pages.__name__}.{page.name}")
    import_module("pyarrow.compute")
    figure(LIGHT, 100).add_scatter(x=[0], y=[0]).to_json()
    # Streamlit collects garbage after each run of a page, while the browser waits for what the run has made: what is
    # imported stays for good, and to look through it again each time took a third of a run.
    gc.collect()
    gc.freeze()


def _log_as_the_room_does() -> None:
    """Streamlit gives each of its loggers a handler of its own: their lines are to look like ours."""
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] == "streamlit":
            logger_of_streamlit = logging.getLogger(name)
            logger_of_streamlit.handlers.clear()
            logger_of_streamlit.propagate = True


async def _healthz(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def _options(host: str, port: int) -> dict[str, Any]:
    return {
        "server.headless": True,
        "server.port": port,
        "server.address": host,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
        "client.showSidebarNavigation": False,
        "theme.baseFontSize": 15,
        "theme.baseRadius": "7px",
        **_theme("light", LIGHT),
        **_theme("dark", DARK),
    }


def _theme(mode: str, palette: Palette) -> dict[str, Any]:
    return {
        f"theme.{mode}.primaryColor": palette.accent,
        f"theme.{mode}.backgroundColor": palette.background,
        f"theme.{mode}.secondaryBackgroundColor": palette.surface,
        f"theme.{mode}.textColor": palette.ink,
        f"theme.{mode}.linkColor": palette.accent,
        f"theme.{mode}.borderColor": palette.line,
        f"theme.{mode}.redColor": palette.bad,
        f"theme.{mode}.orangeColor": palette.warn,
        f"theme.{mode}.greenColor": palette.good,
        f"theme.{mode}.blueColor": palette.accent,
        f"theme.{mode}.showWidgetBorder": True,
    }
