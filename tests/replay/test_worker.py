"""The stream worker of a replay, as a process."""

import asyncio
import os
from pathlib import Path

import pytest

from quickstart.process import free_port
from replay.errors import WorkerFailed
from replay.worker import StreamWorker

NICE = 7


def nice_of_session(pid: int) -> set[str]:
    """Empty where the kernel does not share time by session."""
    autogroup = Path(f"/proc/{pid}/autogroup")
    return {autogroup.read_text().split()[-1]} if autogroup.exists() else set()


def test_a_worker_gives_way_to_others_and_its_last_words_are_told() -> None:
    nowhere = {
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "TRACEWATCH_STREAM_BROKER_TIMEOUT_S": "2",
    }

    async def watched() -> tuple[set[int], set[str], str]:
        nice, sessions = set(), set()
        async with StreamWorker(nowhere, NICE) as worker:
            while True:
                try:
                    worker.check()
                    nice.add(os.getpriority(os.PRIO_PROCESS, worker.pid))
                    sessions |= nice_of_session(worker.pid)
                except (WorkerFailed, ProcessLookupError, FileNotFoundError) as ended:
                    if isinstance(ended, WorkerFailed):
                        return nice, sessions, str(ended)
                await asyncio.sleep(0.05)

    nice, sessions, said = asyncio.run(asyncio.wait_for(watched(), 100))
    assert NICE in nice
    if not sessions:
        pytest.skip("this kernel shares time by process alone")
    assert str(NICE) in sessions, "where time is shared by session first, its session gives way, too"
    assert "exit code 1" in said
