"""``python -m stream``, for as long as the replay that started it lives.

A replay that is killed cannot stop its worker. But its end of the pipe closes, and the worker then ends itself: it
hands over what is open, to the worker of the replay that is resumed.
"""

import os
import runpy
import signal
import threading
from contextlib import suppress
from pathlib import Path

_STANDARD_INPUT = 0
_AUTOGROUP = Path("/proc/self/autogroup")


def _end_with_the_replay() -> None:
    # Not sys.stdin: a thread that waits in its buffer would hold the interpreter up at its end.
    os.read(_STANDARD_INPUT, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _give_way(nice: int) -> None:
    """A neighbour of live workers, on one machine perhaps: theirs is the right of way.

    Where Linux shares time by session first (``sched_autogroup_enabled``), nice counts only within a session, and this
    worker has one of its own: then the session gives way, too.
    """
    os.nice(nice)
    with suppress(OSError):
        _AUTOGROUP.write_text(str(nice))


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_replay, name="end-with-the-replay", daemon=True).start()
    _give_way(int(os.environ.get("TRACEWATCH_REPLAY_WORKER_NICE", "0")))
    runpy.run_module("stream", run_name="__main__", alter_sys=True)
