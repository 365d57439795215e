"""The end of a run: wait until everything has come to rest, and not longer than it can take."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

import psycopg

from quickstart.process import ManagedProcess
from tests.chaos import counting
from tests.chaos.books import AlertEvent, Books
from tests.chaos.poison import POISON_SERVICE

#: How long after the last span everything may take to be stored, while more and more of it is.
SETTLES_WITHIN_S: Final = 900.0
#: Nothing new for so long, and what is not there will not come.
SETTLED_AFTER_S: Final = 40.0

Told = Callable[[str], None]


async def until_load_ended(load: ManagedProcess, deadline_s: float) -> None:
    while load.is_running and time.monotonic() < deadline_s:  # noqa: ASYNC110  a process
        await asyncio.sleep(0.2)
    if load.is_running:
        await asyncio.to_thread(load.stop, grace_s=5)
    elif load.returncode:
        load.raise_if_ended()


async def settled(url: str, books: Books, told: Told) -> None:
    """Until the history has as many rows as were acknowledged, and statistics of each; or nothing new comes."""
    began_s = changed_s = time.monotonic()
    last: tuple[int, ...] = ()
    wanted = books.acknowledged_traces
    while time.monotonic() - began_s < SETTLES_WITHIN_S and time.monotonic() - changed_s < SETTLED_AFTER_S:
        found = await asyncio.to_thread(_progress, url)
        if found != last:
            last, changed_s = found, time.monotonic()
        traces, rows, counted = found
        if traces >= wanted and rows == counted:
            break
        await asyncio.sleep(2.0)
    told(f"{last[0]} traces, {last[1]} spans, {last[2]} of them in windows")


def _progress(url: str) -> tuple[int, int, int]:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(span_count), 0), (SELECT coalesce(sum(spans), 0) FROM operation_minutes"
            f" WHERE service <> '{POISON_SERVICE}') FROM traces"
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])
    return 0, 0, 0


async def resolved(url: str, within_s: float, told: Told) -> None:
    """Until no alert fires."""
    deadline = time.monotonic() + within_s
    quiet = 0
    while time.monotonic() < deadline and quiet < 3:
        stored = await asyncio.to_thread(counting.stored_alerts, url)
        quiet = 0 if "firing" in stored.values() else quiet + 1
        await asyncio.sleep(1.0)
    told(f"{len(stored)} alerts, {sum(status == 'firing' for status in stored.values())} of them still firing")


async def told_to_client(received: Sequence[AlertEvent], topic: Sequence[AlertEvent]) -> None:
    """Give the live feed a moment to tell what stands on the topic."""
    deadline = time.monotonic() + 15.0
    while len(received) < len(topic) and time.monotonic() < deadline:  # noqa: ASYNC110  another task fills it
        await asyncio.sleep(0.2)
