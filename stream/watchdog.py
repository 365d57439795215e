"""A worker that has crashed ends, so that whoever supervises it starts another.

Faust stops its services after a crash, and may wait for ever for one that cannot stop any more; the process would
then live on without doing anything.
"""

import logging
import os
import threading
import time

import faust

logger = logging.getLogger(__name__)

#: How long a crashed or stopping app may take to end by itself: a handover of much takes seconds.
STOP_WITHIN_S = 30.0
_CRASHED_STOP_WITHIN_S = 10.0
_POLL_S = 0.5


def watch(app: faust.App) -> None:
    """End the process with exit code 1 if ``app`` does not end in time once it stops or has crashed."""
    threading.Thread(target=_watch, args=(app,), name="watchdog", daemon=True).start()


def _watch(app: faust.App) -> None:
    stopping_since: float | None = None
    while True:
        time.sleep(_POLL_S)
        if not app.should_stop:
            continue
        stopping_since = stopping_since or time.monotonic()
        if time.monotonic() - stopping_since > (_CRASHED_STOP_WITHIN_S if app.crashed else STOP_WITHIN_S):
            logger.error("did not stop in time: ending the process; what was not committed is read again")
            logging.shutdown()
            os._exit(1)
