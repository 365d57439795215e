"""What can go wrong with a replay.

TracewatchError
└── ReplayError          with a sentence for the person at the terminal
    ├── BadStretch       times or offsets that make no sense
    ├── SourceUnreadable the source is not there, or not what it is said to be
    ├── NoSuchReplay     no replay of this name or id
    └── WorkerFailed     the stream worker that was started for the replay ended
"""

from tracecore.errors import TracewatchError


class ReplayError(TracewatchError):
    """A replay cannot be run."""


class BadStretch(ReplayError):
    """Times or offsets that make no sense."""


class SourceUnreadable(ReplayError):
    """The source is not there, or not what it is said to be."""


class NoSuchReplay(ReplayError):
    """No replay of this name or id."""


class WorkerFailed(ReplayError):
    """The stream worker that was started for the replay ended."""
