"""How the gateway logs: TRACEWATCH_LOG_FORMAT (``text``, ``json``) and TRACEWATCH_LOG_LEVEL, as every room does.

The level is for our own loggers: libraries stay at INFO or above, since some of them log credentials below it.
"""

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from tracewatch.errors import InvalidSetting

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ``time`` (UTC), ``level``, ``logger``, ``room``, ``message``, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "room": "gateway",
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def start_logging(environ: Mapping[str, str] = os.environ) -> None:
    """Log to stderr as the environment says. Raises InvalidSetting."""
    shape = environ.get("TRACEWATCH_LOG_FORMAT") or "text"
    if shape not in ("text", "json"):
        raise InvalidSetting("TRACEWATCH_LOG_FORMAT", shape, "text or json")
    name = environ.get("TRACEWATCH_LOG_LEVEL") or "INFO"
    if name not in _LEVELS:
        raise InvalidSetting("TRACEWATCH_LOG_LEVEL", name, "one of " + ", ".join(_LEVELS))
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if shape == "json" else logging.Formatter(_TEXT))
    level = logging.getLevelNamesMapping()[name]
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("tracewatch").setLevel(level)
