"""Faults carried out on a deployment, each at its time."""

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from quickstart.errors import ProcessFailed
from quickstart.process import ManagedProcess
from tests.chaos.deployment import Deployment
from tests.chaos.schedule import Fault

#: How long an orderly end may take.
STOP_GRACE_S = 20.0
#: Of the broker: it serves for so long between two faults. On a machine that has too much to do it takes a minute to
#: start, and would be killed again before anything went through it.
RESPITE_S = 10.0


class Faulting:
    """Does what was planned. Two faults of one target follow each other, however long the first took.

    What would begin only after the load has ended is left out.
    """

    def __init__(self, deployment: Deployment, told: Callable[[str], None]) -> None:
        self._deployment = deployment
        self._told = told
        self._one_at_a_time: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        #: What did not come back in time.
        self.failures: list[str] = []
        self.done = 0
        self._broker_back_s = time.monotonic()

    async def run(self, planned: Sequence[Fault], began_s: float, until_s: float) -> None:
        """Returns when the last fault is over. ``began_s`` of the monotonic clock is second 0."""
        await asyncio.gather(*(self._at_its_time(fault, began_s, until_s) for fault in planned))

    async def _at_its_time(self, fault: Fault, began_s: float, until_s: float) -> None:
        await asyncio.sleep(began_s + fault.at_s - time.monotonic())
        if fault.kind == "clock_step":
            self._told(str(fault))
            self.done += 1
            return  # the load does it by itself
        async with self._one_at_a_time[fault.target]:
            if fault.target == "broker":
                await asyncio.sleep(self._broker_back_s + RESPITE_S - time.monotonic())
            late_s = time.monotonic() - began_s - fault.at_s
            if fault.at_s + late_s > until_s:
                self._told(f"{fault}: left out, the load has ended")
                return
            self._told(f"{fault}{f', {late_s:.0f} s late' if late_s > 1 else ''}")
            self._deployment.held.add(fault.target)
            try:
                await self._carry_out(fault)
                self.done += 1
            except ProcessFailed as failure:
                self.failures.append(f"{fault}: {failure}")
            finally:
                self._deployment.held.discard(fault.target)
                if fault.target == "broker":
                    self._broker_back_s = time.monotonic()

    async def _carry_out(self, fault: Fault) -> None:
        process = self._deployment.services[fault.target].process
        if fault.kind == "freeze":
            _signal_group(process, signal.SIGSTOP)
            try:
                await asyncio.sleep(fault.lasts_s)
            finally:
                _signal_group(process, signal.SIGCONT)
            return
        if fault.kind == "kill":
            await asyncio.to_thread(process.kill)
        elif fault.kind == "restart":
            await asyncio.to_thread(process.stop, grace_s=STOP_GRACE_S)
        else:
            await asyncio.to_thread(_end_immediately, process)
        await asyncio.sleep(fault.lasts_s)
        await self._deployment.started_again(fault.target)


def _signal_group(process: ManagedProcess, number: signal.Signals) -> None:
    if process.pid is not None:
        os.killpg(process.pid, number)


def _end_immediately(process: ManagedProcess) -> None:
    """PostgreSQL's immediate shutdown: no checkpoint, so its next start recovers as after a crash."""
    if process.pid is not None:
        os.kill(process.pid, signal.SIGQUIT)
    deadline = time.monotonic() + STOP_GRACE_S
    while process.is_running and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
