"""What can go wrong while things are started on one machine.

QuickstartError
├── NotAvailable       something that has to be installed first is not there
└── ProcessFailed      a process ended, or was not ready in time; carries the end of its log
"""

from pathlib import Path


class QuickstartError(Exception):
    """Says what failed and what to do next, in words for the person at the terminal."""


class NotAvailable(QuickstartError):
    """Something needed is not on this machine; the message names it and how to get it."""


class ProcessFailed(QuickstartError):
    """A process ended or was not ready in time."""

    def __init__(self, name: str, reason: str, log_path: Path, log_tail: str) -> None:
        self.name = name
        self.reason = reason
        self.log_path = log_path
        self.log_tail = log_tail
        said = f"Its last words in {log_path}:\n{log_tail}" if log_tail else f"It wrote nothing to {log_path}."
        super().__init__(f"{name} {reason}. {said}")
