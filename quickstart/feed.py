"""The live feed of alerts, read as any WebSocket client would: it resumes after its cursor and misses nothing."""

import asyncio
import json
import logging
import time
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

logger = logging.getLogger(__name__)

RECONNECT_AFTER_S: Final = 0.5
#: Kinds of alert that one span can set off.
SPAN_KINDS: Final = ("error", "slow_span")


@dataclass(frozen=True, slots=True)
class ReceivedAlert:
    """An alert's event as live_api sends it. ``delay_ns``: from the end of the span that set it off to our clock's now.

    It is None where no single span did, and for what was told before.
    """

    alert: dict[str, Any]
    delay_ns: int | None


async def alerts(base_url: str) -> AsyncIterator[ReceivedAlert]:
    """Every alert of live_api at ``base_url`` (ws://...) from now on, once, over any number of connections."""
    cursor = ""
    told: set[tuple[str, int]] = set()
    while True:
        query = f"?{urllib.parse.urlencode({'after': cursor})}" if cursor else ""
        try:
            async with connect(f"{base_url}/ws/alerts{query}", open_timeout=5) as feed:
                async for message in feed:
                    received_ns = time.time_ns()
                    event = json.loads(message)
                    cursor = event.get("cursor", cursor)
                    if event["type"] == "alert":
                        alert = event["alert"]
                        episode = alert["fingerprint"], alert["starts_at_ns"]
                        is_new = alert["status"] == "firing" and episode not in told
                        told.add(episode)
                        # Such an alert starts with the end of its first span.
                        is_of_a_span = is_new and alert["labels"].get("kind") in SPAN_KINDS
                        yield ReceivedAlert(alert, received_ns - alert["starts_at_ns"] if is_of_a_span else None)
        except (OSError, TimeoutError, WebSocketException, InvalidHandshake) as error:
            logger.debug("feed interrupted: %s", error)
        await asyncio.sleep(RECONNECT_AFTER_S)
