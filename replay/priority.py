"""A replay gives way: it has all night, and what is live has not."""

import os
from contextlib import suppress
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(nice: int) -> None:
    """Lower this process to ``nice``, and what it starts from here on; never raise it."""
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


def let_session_give_way(nice: int) -> None:
    """The same of the whole session, for a process that has one of its own.

    Where Linux shares time by session first (``sched_autogroup_enabled``), nice counts only within a session.
    """
    with suppress(OSError):
        _AUTOGROUP.write_text(str(nice))
