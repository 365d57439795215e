"""The load, as a process of its own: sends what was planned at the rate asked for, and keeps the books.

    python -m tests.chaos.load PLAN BOOKS

PLAN is a JSON file (``Plan``); to BOOKS a line of JSON is appended for all that was acknowledged (``books.Line``).
Ends by itself once everything that was due is acknowledged, or on SIGTERM with what then is in doubt.
"""

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

import msgspec

from tests.chaos.books import Line
from tests.chaos.entrances import CollectorEntrance, Entrance, GatewayEntrance, RecordProducer, SdkEntrance
from tests.chaos.poison import poison
from tests.chaos.schedule import CLOCK_STEP_S, INCIDENT_S
from tests.chaos.traffic import FAILS_EVERY, SHARES, SPANS, Trace
from tracecore.topics import Topics

#: What is due is sent so often.
ROUND_S: Final = 0.1
#: A trace is sent once it is over.
_TRACE_NS: Final = 60_000_000
#: One entrance's errors at a time: each incident has its own.
_ENTRANCES: Final = tuple(SHARES)


class Plan(msgspec.Struct, frozen=True):
    """What to send, and where. Times are seconds of the load."""

    bootstrap_servers: str
    gateway_url: str
    spans_per_s: float
    duration_s: float
    #: (at, until, by): the clock of the Collector's entrance is off by so much for so long.
    clock_steps: list[tuple[float, float, float]] = []
    #: (at, operation): an operation fails.
    incidents: list[tuple[float, str]] = []
    poison_per_s: float = 0.0


class Load:
    """All entrances, each at its own pace: one that waits for an answer holds up no other."""

    def __init__(self, plan: Plan, books: TextIO) -> None:
        self._plan = plan
        self._books = books
        self._began_s = time.monotonic()
        self._topics = Topics()

    async def run(self) -> None:
        """Until everything that was due is acknowledged."""
        plan = self._plan
        entrances: dict[str, Entrance] = {
            "sdk": SdkEntrance(plan.bootstrap_servers),
            "gateway": GatewayEntrance(plan.gateway_url),
            "collector": CollectorEntrance(
                plan.bootstrap_servers, self._topics.otlp_spans, lambda: self._now_ns("collector") // 1_000_000
            ),
        }
        self._began_s = time.monotonic()
        self._write(Line("began", at_s=0.0, unix_s=time.time()))
        await asyncio.gather(*(self._send(name, entrance) for name, entrance in entrances.items()), self._poison())
        self._write(Line("ended", at_s=self._elapsed_s()))
        for entrance in entrances.values():
            await entrance.close()

    async def _send(self, name: str, entrance: Entrance) -> None:
        traces_per_s = self._plan.spans_per_s * SHARES[name] / SPANS
        sent = 0
        while True:
            elapsed_s = self._elapsed_s()
            due = int(min(elapsed_s, self._plan.duration_s) * traces_per_s)
            if due > sent:
                started_ns = self._now_ns(name) - _TRACE_NS
                failing = self._failing(name, elapsed_s)
                traces = [
                    Trace(name, number, started_ns, failing if number % FAILS_EVERY == 0 else "")
                    for number in range(sent, due)
                ]
                # Before they go out: what is not in the books must not be in the history either.
                self._write(Line("sending", name, sent, due, elapsed_s, failing=failing))
                acknowledged = await entrance.send(traces)
                state = "acknowledged" if acknowledged else "in doubt"
                self._write(Line(state, name, sent, due, self._elapsed_s(), failing=failing))
                sent = due
            elif elapsed_s >= self._plan.duration_s:
                return
            await asyncio.sleep(max(0.0, elapsed_s + ROUND_S - self._elapsed_s()))

    async def _poison(self) -> None:
        producer = RecordProducer(self._plan.bootstrap_servers)
        number = 0
        while self._plan.poison_per_s and (elapsed_s := self._elapsed_s()) < self._plan.duration_s:
            due_s = number / self._plan.poison_per_s
            if elapsed_s < due_s:
                await asyncio.sleep(due_s - elapsed_s)
                continue
            one = poison(number, self._topics, time.time_ns())
            await producer.deliver(one.topic, one.value, time.time_ns() // 1_000_000)
            self._write(Line("poison", one.topic, number, number + 1, self._elapsed_s()))
            number += 1
        await producer.close()

    def _failing(self, entrance: str, elapsed_s: float) -> str:
        for number, (at_s, operation) in enumerate(self._plan.incidents):
            if at_s <= elapsed_s < at_s + INCIDENT_S and _ENTRANCES[number % len(_ENTRANCES)] == entrance:
                return operation
        return ""

    def _now_ns(self, entrance: str) -> int:
        """The clock of a producer; the Collector's is set now and then."""
        elapsed_s, off_s = self._elapsed_s(), 0.0
        if entrance == "collector":
            off_s = sum(by_s for at_s, until_s, by_s in self._plan.clock_steps if at_s <= elapsed_s < until_s)
        return time.time_ns() + round(min(max(off_s, -CLOCK_STEP_S), CLOCK_STEP_S) * 1e9)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _write(self, line: Line) -> None:
        self._books.write(msgspec.json.encode(line).decode() + "\n")
        self._books.flush()


async def _run(plan: Plan, books: TextIO) -> None:
    loading = asyncio.ensure_future(Load(plan, books).run())
    end: Callable[[], object] = loading.cancel
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await asyncio.wait({loading})
    if not loading.cancelled():
        loading.result()


def main(plan_path: str, books_path: str) -> None:
    """Run the load to its end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    gc.set_threshold(100_000, 20, 100)
    plan = msgspec.json.decode(Path(plan_path).read_bytes(), type=Plan)
    with Path(books_path).open("a") as books:
        asyncio.run(_run(plan, books))


if __name__ == "__main__":
    main(*sys.argv[1:])
