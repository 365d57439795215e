"""How a room logs: TRACEWATCH_LOG_FORMAT and TRACEWATCH_LOG_LEVEL. Called once, by a room's ``__main__``.

The level is for our own loggers: libraries stay at INFO or above, since some of them log credentials below it
(aiokafka writes the bytes of an authentication, which are the password).
"""

import json
import logging
from datetime import UTC, datetime

from tracecore.settings import LogSettings

#: Loggers whose names begin so are ours.
ROOMS = ("tracecore", "stream", "sink", "replay", "live_api", "dashboard", "migrations", "quickstart")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ``time`` (UTC), ``level``, ``logger``, ``room``, ``message``, ``exception``."""

    def __init__(self, room: str) -> None:
        super().__init__()
        self._room = room

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "room": self._room,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            said["stack"] = self.formatStack(record.stack_info)
        return json.dumps(said, ensure_ascii=False)


def start_logging(settings: LogSettings, room: str, *, usual_level: int = logging.INFO) -> None:
    """Log to stderr as ``settings`` say; ``usual_level`` holds if they name no level."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(room) if settings.format == "json" else logging.Formatter(_TEXT))
    level = logging.getLevelNamesMapping()[settings.level] if settings.level else usual_level
    logging.basicConfig(level=max(level, logging.INFO), handlers=[handler], force=True)
    for name in ROOMS:
        logging.getLogger(name).setLevel(level)
    # Warnings of Python's own, which would be lines of another shape.
    logging.captureWarnings(True)
