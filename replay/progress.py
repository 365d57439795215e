"""How far a replay is: figures for a person, and what they are drawn with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from replay.stretch import Stretch


class Shown(Protocol):
    """What a run tells of its progress."""

    def came_to(self, arrival_ns: int, records: int, spans: int) -> None:
        """So much was sent, up to this arrival."""

    def phase(self, text: str) -> None:
        """What it does now."""

    def share(self, done: float) -> None:
        """So much of this phase is done, 0 to 1."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['spans']:,} spans  {task.fields['rate']:,.0f}/s", style="cyan")


class _Bar:
    def __init__(self, progress: Progress, stretch: Stretch, total_records: int | None) -> None:
        self._progress = progress
        self._stretch = stretch
        self._total = total_records
        self._first_ns: int | None = None
        self._task = progress.add_task("sending", total=None, spans=0, rate=0.0)
        self._began: tuple[float, int] | None = None

    def came_to(self, arrival_ns: int, records: int, spans: int) -> None:
        now_s = self._progress.get_time()
        began_s, before = self._began = self._began or (now_s, spans)
        if now_s > began_s:
            self._progress.update(self._task, rate=(spans - before) / (now_s - began_s))
        if self._first_ns is None:
            self._first_ns = self._stretch.from_ns or arrival_ns
        if self._total:
            self._progress.update(self._task, total=self._total, completed=records, spans=spans)
        elif self._stretch.until_ns is not None and self._stretch.until_ns > self._first_ns:
            whole = self._stretch.until_ns - self._first_ns
            self._progress.update(self._task, total=whole, completed=arrival_ns - self._first_ns, spans=spans)
        else:
            self._progress.update(self._task, spans=spans)

    def phase(self, text: str) -> None:
        # The time left of a phase is reckoned from that phase alone.
        self._progress.reset(self._task, total=None, description=text)

    def share(self, done: float) -> None:
        self._progress.update(self._task, total=1.0, completed=done)


class _Lines:
    """For logs and pipes: a line a phase."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def came_to(self, arrival_ns: int, records: int, spans: int) -> None:
        pass

    def phase(self, text: str) -> None:
        self._console.print(text)

    def share(self, done: float) -> None:
        pass


@contextmanager
def shown(console: Console, stretch: Stretch, total_records: int | None) -> Iterator[Shown]:
    """A progress bar with rate and time left; plain lines where the output is no terminal."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn(), console=console
    ) as progress:
        yield _Bar(progress, stretch, total_records)
