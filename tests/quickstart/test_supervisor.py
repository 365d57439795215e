"""Services are started together, brought back when they die or hang, and ended together."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quickstart import supervisor
from quickstart.errors import ProcessFailed
from quickstart.program import Program
from quickstart.supervisor import Supervisor, together


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.ready_titles: list[str] = []
        self.deaths: list[tuple[str, bool]] = []

    def starting(self, title: str) -> None: ...

    def ready(self, title: str, after_s: float) -> None:
        self.ready_titles.append(title)

    def died(self, failure: ProcessFailed, *, restarting: bool) -> None:
        self.deaths.append((failure.reason, restarting))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(supervisor, "RESTART_AFTER_S", 0.01)
    monkeypatch.setattr(supervisor, "ASK_EVERY_S", 0.05)
    monkeypatch.setattr(supervisor, "UNRESPONSIVE_AFTER_S", 0.3)


def program(run_dir: Path, title: str, code: str, is_ready: Callable[[], bool] = lambda: True) -> Program:
    argv = [sys.executable, "-c", code]
    return Program(title, argv, environment={}, is_ready=is_ready, run_dir=run_dir)


def sleeper(run_dir: Path, title: str, is_ready: Callable[[], bool] = lambda: True) -> Program:
    return program(run_dir, title, "import time; time.sleep(60)", is_ready)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.01)


async def test_what_dies_is_reported_and_started_again(tmp_path: Path) -> None:
    told = Told()
    services = Supervisor(told)
    one, other = sleeper(tmp_path, "one"), sleeper(tmp_path, "other")
    await services.start(one, other)
    watching = asyncio.create_task(services.watch())
    first_pid = one.process.pid
    assert first_pid is not None
    os.kill(first_pid, signal.SIGKILL)
    await until(lambda: told.ready_titles.count("one") == 2)
    assert told.deaths == [("was ended by SIGKILL", True)]
    assert one.process.pid not in (None, first_pid)
    assert told.ready_titles.count("other") == 1
    watching.cancel()
    await services.close()
    assert not one.process.is_running
    assert not other.process.is_running


async def test_what_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    told = Told()
    services = Supervisor(told)
    await services.start(program(tmp_path, "broken", "import time; time.sleep(0.3); exit(7)"))
    with pytest.raises(ProcessFailed, match="broken ended with exit code 7"):
        await services.watch()
    assert [restarting for _, restarting in told.deaths] == [True, True, True, False]


async def test_what_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    told = Told()
    services = Supervisor(told)
    hanging = tmp_path / "hanging"
    await services.start(sleeper(tmp_path, "room", lambda: not hanging.exists()))
    watching = asyncio.create_task(services.watch())
    hanging.touch()
    await until(lambda: told.deaths)
    hanging.unlink()
    await until(lambda: told.ready_titles == ["room", "room"])
    assert "had not served" in told.deaths[0][0]
    watching.cancel()
    await services.close()


async def test_a_service_that_does_not_start_stops_the_start_of_its_group(tmp_path: Path) -> None:
    services = Supervisor(Told())
    never_ready = sleeper(tmp_path, "slow", lambda: False)
    with pytest.raises(ProcessFailed, match=r"(?s)broken ended with exit code 1.*no such table"):
        await services.start(never_ready, program(tmp_path, "broken", "exit('no such table')", lambda: False))
    await services.close()
    assert not never_ready.process.is_running


async def test_kill_ends_everything_at_once(tmp_path: Path) -> None:
    services = Supervisor(Told())
    deaf = program(tmp_path, "deaf", "import signal, time; signal.signal(signal.SIGTERM, lambda *_: 0); time.sleep(60)")
    await services.start(deaf)
    services.kill()
    assert deaf.process.returncode == -signal.SIGKILL


async def test_steps_done_together_all_end_when_one_fails() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ProcessFailed("stream", "failed", Path("log"), "")

    with pytest.raises(ProcessFailed):
        await together(endless(), failing())
    assert ended == [True]


async def test_an_error_that_can_be_explained_comes_before_one_that_cannot() -> None:
    async def explained() -> None:
        await together(failing())

    async def failing() -> None:
        raise ProcessFailed("stream", "failed", Path("log"), "")

    async def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ProcessFailed):
        await together(explained(), bug())
    with pytest.raises(ExceptionGroup) as unexplained:
        await together(bug())
    assert isinstance(unexplained.value.exceptions[0], ZeroDivisionError)
