"""Services started together, watched while they run, and ended together."""

import asyncio
import itertools
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

from quickstart.errors import ProcessFailed, QuickstartError
from quickstart.service import Service

POLL_INTERVAL_S: Final = 0.1
RESTART_AFTER_S: Final = 1.0
ASK_EVERY_S: Final = 5.0
# Longer than any pause of a healthy room: a consumer group's rebalance, a busy machine.
UNRESPONSIVE_AFTER_S: Final = 45.0
MAX_RESTARTS: Final = 3


class Reporter(Protocol):
    """Who is told what happens."""

    def starting(self, title: str) -> None: ...
    def ready(self, title: str, after_s: float) -> None: ...
    def died(self, failure: ProcessFailed, *, restarting: bool) -> None: ...


class Supervisor:
    """Starts services in groups, brings back those that die, and ends all, the last started first."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._groups: list[Sequence[Service]] = []

    async def start(self, *group: Service) -> None:
        """Start a group together; returns when all are ready. Raises ProcessFailed of the first that fails."""
        self._groups.append(group)
        for service in group:
            service.process.log_path.unlink(missing_ok=True)  # of an earlier run
        await together(*(self._started(service) for service in group))

    async def watch(self) -> None:
        """Until cancelled: start again, three times at most, whatever dies or no longer serves.

        Raises ProcessFailed when one is given up, or cannot be replaced because what it held is gone.
        """
        await together(*(self._keep(service) for group in self._groups for service in group))

    async def close(self) -> None:
        """End everything in order, group by group, the last started first."""
        while self._groups:
            group = self._groups[-1]
            await asyncio.gather(*(asyncio.to_thread(service.close) for service in group))
            self._groups.pop()

    def kill(self) -> None:
        """End everything at once."""
        for group in self._groups:
            for service in group:
                service.process.kill()

    async def _keep(self, service: Service) -> None:
        for restarts in itertools.count():
            failure = await _failure_of(service)
            may_restart = service.survives_restart and restarts < MAX_RESTARTS
            self._reporter.died(failure, restarting=may_restart)
            if not may_restart:
                raise failure
            await asyncio.sleep(RESTART_AFTER_S)
            await self._started(service)

    async def _started(self, service: Service) -> None:
        self._reporter.starting(service.title)
        begun_s = time.monotonic()
        await asyncio.to_thread(service.prepare)
        service.process.start()
        while not await asyncio.to_thread(service.is_ready):
            service.process.raise_if_ended()
            service.process.raise_if_late(begun_s + service.ready_timeout_s)
            await asyncio.sleep(POLL_INTERVAL_S)
        self._reporter.ready(service.title, time.monotonic() - begun_s)


async def _failure_of(service: Service) -> ProcessFailed:
    """Returns when the process has ended, or has stopped serving for so long that it was killed."""
    asked_s = served_s = time.monotonic()
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        try:
            service.process.raise_if_ended()
        except ProcessFailed as failure:
            return failure
        now_s = time.monotonic()
        if now_s - asked_s < ASK_EVERY_S:
            continue
        asked_s = now_s
        if await asyncio.to_thread(service.is_ready):
            served_s = now_s
        elif now_s - served_s > UNRESPONSIVE_AFTER_S:
            service.process.kill()
            reason = f"had not served for {UNRESPONSIVE_AFTER_S:g} s and was killed"
            return ProcessFailed(service.process.name, reason, service.process.log_path, service.process.log_tail())


async def together(*steps: Coroutine[Any, Any, None]) -> None:
    """Do all steps at the same time; the first QuickstartError cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for step in steps:
                tasks.create_task(step)
    except ExceptionGroup as failures:
        raise _first_known(failures) from None


def _first_known(failures: ExceptionGroup[Exception]) -> Exception:
    """The first QuickstartError among ``failures``; without one, all of them."""
    first: Exception = failures.subgroup(QuickstartError) or failures
    while first is not failures and isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first
