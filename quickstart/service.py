"""What everything that runs here has in common: prepared, started, ready, stopped, started again, closed."""

from abc import ABC, abstractmethod
from typing import Self

from quickstart.process import ManagedProcess


class Service(ABC):
    """A process that serves something, with a test of whether it does so yet.

    ``start`` and ``stop`` may alternate: port and data stay. ``close`` ends it for good and deletes its data. As a
    context manager it is started on entry and closed on exit.
    """

    #: What a person calls it.
    title: str
    #: How long it may take from its start until it is ready.
    ready_timeout_s: float
    #: Whether those who use it can go on when it comes back: False if what it held is gone.
    survives_restart: bool = True
    process: ManagedProcess

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """What has to be done before the first start: blocking, and again harmless."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves now. Blocks for two seconds at most."""

    def start(self) -> Self:
        """Start it, and return when it is ready. Raises ProcessFailed."""
        self.prepare()
        self.process.start().wait_until(self.is_ready, timeout_s=self.ready_timeout_s)
        return self

    def stop(self) -> None:
        """Shut it down in order; ``start`` brings it back."""
        self.process.stop()

    def kill(self) -> None:
        """Crash it (SIGKILL); ``start`` brings it back."""
        self.process.kill()

    def close(self) -> None:
        """End it for good."""
        self.process.stop(grace_s=3.0)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()
