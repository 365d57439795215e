"""Other rooms over HTTP: their metrics pages, and live_api's silences."""

import json
import logging
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from dashboard.queries.pipeline import summed

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 2.0
_MAX_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class RoomMetrics:
    """A room's figures by name, summed over labels; or why there are none."""

    figures: dict[str, float]
    failure: str = ""


def metrics_of(url: str, token: str = "") -> RoomMetrics:
    """Ask a room's /metrics."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urlopen(Request(f"{url.rstrip('/')}/metrics", headers=headers), timeout=_TIMEOUT_S) as answer:
            text = answer.read(_MAX_BYTES).decode()
        families = list(text_string_to_metric_families(text))
    except (OSError, URLError, HTTPException, ValueError) as error:
        return RoomMetrics({}, _sentence(error))
    return RoomMetrics(summed((sample.name, sample.value) for family in families for sample in family.samples))


def create_silence(url: str, token: str, silence: dict[str, Any]) -> str:
    """Ask live_api to silence; empty, or why it did not."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = Request(f"{url.rstrip('/')}/api/v1/silences", json.dumps(silence).encode(), headers, method="POST")
    try:
        with urlopen(request, timeout=_TIMEOUT_S):
            return ""
    except HTTPError as error:
        if error.code == 404:
            return "This live_api takes no silences."
        return f"live_api refused: {error.read(500).decode('utf-8', 'replace') or error.reason}"
    except (OSError, URLError, HTTPException) as error:
        return f"live_api does not answer: {_sentence(error)}"


def _sentence(error: Exception) -> str:
    """What went wrong, without the numbers of the operating system."""
    cause = getattr(error, "reason", None) or error
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__
