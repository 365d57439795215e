"""``python -m stream``, for as long as the replay that started it lives.

A replay that is killed cannot stop its worker. But its end of the pipe closes, and the worker then ends itself; what
is open is read again by the worker of the replay that is resumed.
"""

import os
import runpy
import signal
import threading

from replay.priority import give_way, let_session_give_way

_STANDARD_INPUT = 0


def _end_with_the_replay() -> None:
    # Not sys.stdin: a thread that waits in its buffer would hold the interpreter up at its end.
    os.read(_STANDARD_INPUT, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_replay, name="end-with-the-replay", daemon=True).start()
    nice = int(os.environ.get("TRACEWATCH_REPLAY_NICE", "0"))
    give_way(nice)
    let_session_give_way(nice)
    runpy.run_module("stream", run_name="__main__", alter_sys=True)
