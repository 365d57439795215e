"""What the demo says, and how: colours and a status line on a terminal, plain lines where output goes elsewhere."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.text import Text

from quickstart.delays import Delays
from quickstart.errors import ProcessFailed
from quickstart.faults import Fault
from quickstart.feed import ReceivedAlert

SEVERITY_STYLES: Final[Mapping[str, str]] = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
TRACE_ID_SHOWN: Final = 8


class Terminal:
    """Speaks to the person who started the demo. Use as a context manager: it owns the bottom of the screen."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._is_animated = self._console.is_terminal and not self._console.is_dumb_terminal
        self._starting: dict[str, float] = {}
        self._status: Text | None = None
        self._delays = Delays()
        self._next_fault: tuple[Fault, float] | None = None
        self._live = Live(
            console=self._console, get_renderable=self._bottom, transient=True, refresh_per_second=8, auto_refresh=True
        )

    def __enter__(self) -> "Terminal":
        if self._is_animated:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    # --- while starting and stopping

    def headline(self, text: str) -> None:
        self._print(Text(text, style="bold"))

    def starting(self, title: str) -> None:
        self._starting[title] = time.monotonic()

    def ready(self, title: str, after_s: float) -> None:
        self._starting.pop(title, None)
        self._print(_row(("✓", "green"), f" {title:<38}", (f"{after_s:5.1f} s", "dim")))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step that is over when the block is."""
        self.starting(title)
        begun_s = time.monotonic()
        yield
        self.ready(title, time.monotonic() - begun_s)

    def died(self, failure: ProcessFailed, *, restarting: bool) -> None:
        self._starting.pop(failure.name, None)
        what_now = "starting it again" if restarting else "it is not started again"
        body = Group(
            Text(failure.log_tail or "(it wrote nothing)", style="dim", no_wrap=True, overflow="ellipsis"),
            Text(f"log: {failure.log_path}"),
        )
        self._print(Panel(body, title=f"{failure.name} {failure.reason}; {what_now}", border_style="red", expand=False))

    def failed(self, error: Exception) -> None:
        self._starting.clear()
        self._print(_row(("✗ ", "bold red"), str(error)))

    def stopping(self) -> None:
        self._next_fault = None
        self._status = Text("ending every process … Ctrl-C again kills them")
        if not self._is_animated:
            self._print(self._status)

    def stopped(self, after_s: float) -> None:
        self._status = None
        self._print(_row(("✓", "green"), f" everything has ended, every port is free ({after_s:.1f} s)"))

    # --- while running

    def running(self, rows: Sequence[tuple[str, str, str]], ready_after_s: float) -> None:
        """``rows``: what runs, where, and a word about it."""
        # By hand, not as a table: an address that was folded into a column cannot be copied.
        widths = [max(len(cell) for cell in column) for column in list(zip(*rows, strict=True))[:2]]
        self._print(Text())
        for what, where, what_for in rows:
            self._print(
                _row((f"{what:<{widths[0]}}  ", "bold"), (f"{where:<{widths[1]}}  ", "cyan"), (what_for, "dim"))
            )
        self._print(Text())
        self._print(
            _row(("ready", "bold green"), f" after {ready_after_s:.1f} s. Live alerts follow; Ctrl-C ends it all.")
        )
        self._print(_row(("make it fail: python -m quickstart fault slow --service api-service\n", "dim")))
        self._status = Text("waiting for the first alert")

    def fault_injected(self, fault: Fault, for_s: float) -> None:
        self._print(_row((_now(), "dim"), ("  ⚡ fault     ", "magenta"), f"{fault.summary}, for {for_s:g} s"))

    def fault_announced(self, fault: Fault, in_s: float) -> None:
        self._next_fault = (fault, time.monotonic() + in_s)

    def alert(self, received: ReceivedAlert) -> None:
        """One event of the feed."""
        alert, delay_ns = received.alert, received.delay_ns
        labels, evidence = alert["labels"], alert["evidence"]
        if alert["status"] == "firing":
            state = ("  ● firing    ", SEVERITY_STYLES.get(labels.get("severity", ""), "bold"))
        else:
            state = ("  ✓ resolved  ", "green")
        service = labels.get("service", "")
        summary = alert["annotations"].get("summary") or labels.get("alertname", "")
        trace_ids = evidence["sample_trace_ids"]
        if delay_ns is not None:
            self._delays.observe(delay_ns)
        self._print(
            _row(
                (_now(), "dim"),
                state,
                (f"{labels.get('severity', ''):<9}", state[1]),
                (service, "bold"),
                f" {summary.removeprefix(service).lstrip(': ')}",
                (f"  trace {trace_ids[-1][:TRACE_ID_SHOWN]}" if trace_ids else "", "dim"),
                (f"  after {delay_ns / 1e6:.0f} ms" if delay_ns is not None else "", "dim cyan"),
            )
        )
        self._status = self._delay_summary()

    def delay_summary(self) -> None:
        """Say once how long the alerts took."""
        if self._delays:
            self._print(self._delay_summary())

    # --- private

    def _delay_summary(self) -> Text:
        if not self._delays:
            return Text("no alert has told its delay yet")
        median, p99 = (self._delays.quantile_ns(q) / 1e6 for q in (0.5, 0.99))
        return Text(f"span end to WebSocket: median {median:.0f} ms, p99 {p99:.0f} ms over {len(self._delays)} alerts")

    def _print(self, what: RenderableType) -> None:
        self._console.print(what)

    def _bottom(self) -> RenderableType:
        """What stands below the last line: who is starting, or how things go."""
        if self._starting:
            waiting = ", ".join(self._starting)
            longest_s = time.monotonic() - min(self._starting.values())
            return Spinner("dots", Text(f"starting {waiting}  {longest_s:.0f} s", style="dim"), style="cyan")
        if self._status is None:
            return Text()
        parts = [self._status.plain]
        if self._next_fault is not None:
            fault, at_s = self._next_fault
            parts.append(f"next fault in {max(0, at_s - time.monotonic()):.0f} s: {fault.kind} in {fault.service}")
        return Text("\n" + "  ·  ".join(parts), style="dim")


def _row(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts)


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
