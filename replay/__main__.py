"""``python -m replay``: run, resume, list, status, cancel, backtest."""

import argparse
import asyncio
import logging
import signal
import sys
import time
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psycopg
from aiokafka.errors import KafkaError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from replay.backtest import Episode, backtest, difference
from replay.backtest_results import Result, keep
from replay.command_line import parser
from replay.errors import ReplayError
from replay.journal import Journal, ReplayRow
from replay.pacing import parsed_speed
from replay.priority import give_way
from replay.progress import shown
from replay.records import spans_of
from replay.run import Cancelled, Counts, Plan, Run, utc, worker_environment
from replay.scoring import Fault, Raised, read_labels, scored
from replay.settings import ReplaySettings
from replay.sources.chosen import chosen_source, chosen_stretch, fixed_request
from replay.sources.source import Source
from replay.stretch import Stretch
from tracecore.errors import MalformedPayload, TracewatchError
from tracecore.logs import start_logging
from tracecore.settings import DatabaseSettings, KafkaSettings, LogSettings, read

#: Exit code of a command that Ctrl-C ended, as shells have it.
INTERRUPTED = 130
_PIPE_WIDTH = 160


def main() -> int:
    """Returns the exit code."""
    # A pipe has no width of its own: tables keep theirs.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    arguments = parser().parse_args()
    try:
        start_logging(read(LogSettings), "replay", usual_level=logging.WARNING)
        return asyncio.run(_interruptible(_Commands(console).run(arguments)))
    except (TracewatchError, KafkaError, psycopg.Error, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"replay: {error}", markup=False)
        return 1


async def _interruptible(command: Coroutine[Any, Any, int]) -> int:
    task = asyncio.create_task(command)
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not signals:
            raise  # nobody asked for it: a bug
        return INTERRUPTED


class _Commands:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._kafka = read(KafkaSettings)
        self._settings = read(ReplaySettings)
        self._database_url = read(DatabaseSettings).url.get_secret_value()

    async def run(self, arguments: argparse.Namespace) -> int:
        command = {
            "run": self._run,
            "resume": self._resume,
            "list": self._list,
            "status": self._status,
            "cancel": self._cancel,
            "backtest": self._backtest,
        }[arguments.command]
        return await command(arguments)

    async def _run(self, arguments: argparse.Namespace) -> int:
        parsed_speed(arguments.speed)  # a wrong one is told of before anything is read
        stretch = chosen_stretch(arguments, time.time_ns())
        source = chosen_source(arguments, stretch, self._kafka, self._database_url)
        if arguments.dry_run:
            return await self._dry_run(source, stretch)
        async with Journal(self._database_url) as journal:
            request = await fixed_request(arguments, source, stretch)
            replay_id = uuid.uuid4().hex[:12]
            name = arguments.name or replay_id
            await journal.begin(
                replay_id, name=name, source=source.name, from_time=utc(stretch.from_ns),
                until_time=utc(stretch.until_ns), request=request,
            )  # fmt: skip
            fixed = parser().parse_args(["run", *request])
            return await self._carried_out(journal, fixed, replay_id, name, {})

    async def _resume(self, arguments: argparse.Namespace) -> int:
        async with Journal(self._database_url) as journal:
            row = await journal.found(arguments.name)
            if row.state in ("done", "cancelled"):
                raise ReplayError(f"replay {row.name} is {row.state}: start a new one")
            await journal.hold(row.replay_id)
            fixed = parser().parse_args(["run", *row.request])
            for option in ("speed", "spans_per_s", "workers"):
                if getattr(arguments, option) is not None:
                    setattr(fixed, option, getattr(arguments, option))
            await journal.set(row.replay_id, state="running", cancel_requested=False)
            so_far = {
                "is_resumed": True,
                "position": row.position,
                "produced": {int(number): offset for number, offset in row.produced.items()},
                "counted": Counts(row.records, row.spans, row.unreadable),
            }
            return await self._carried_out(journal, fixed, row.replay_id, row.name, so_far)

    async def _carried_out(
        self, journal: Journal, fixed: argparse.Namespace, replay_id: str, name: str, so_far: dict[str, Any]
    ) -> int:
        stretch = chosen_stretch(fixed, time.time_ns())
        source = chosen_source(fixed, stretch, self._kafka, self._database_url)
        speed = parsed_speed(fixed.speed)
        plan = Plan(
            replay_id, name, source, fixed.service, speed, fixed.spans_per_s, fixed.workers, fixed.notify, **so_far
        )
        if not fixed.workers:
            worker = worker_environment(self._kafka, replay_id, fixed.notify)
            self._console.print("start workers with: " + " ".join(f"{k}={v}" for k, v in worker.items()))
        give_way(self._settings.nice)
        with shown(self._console, stretch, source.total_records) as progress:
            try:
                report = await Run(self._kafka, self._settings, journal, plan, progress)()
            except Cancelled:
                await journal.set(replay_id, state="cancelled")
                self._console.print(f"replay {name} was cancelled; what it sent stays")
                return 1
            except asyncio.CancelledError:
                await journal.set(replay_id, state="interrupted")
                self._console.print(f"interrupted; go on with: python -m replay resume {name}")
                raise
            except (TracewatchError, KafkaError, OSError) as error:
                await journal.set(replay_id, state="failed", failure=str(error))
                raise
        for line in report.lines():
            self._console.print(line)
        return 0

    async def _dry_run(self, source: Source, stretch: Stretch) -> int:
        records = spans = unreadable = 0
        services: set[str] = set()
        traces: set[bytes] = set()
        with shown(self._console, stretch, source.total_records) as progress:
            progress.phase("reading")
            async for record in source.records():
                records += 1
                try:
                    found, rejected = spans_of(record)
                except MalformedPayload:
                    unreadable += 1
                    continue
                unreadable += rejected
                spans += len(found)
                traces.update(span.trace_id for span in found)
                services.update(span.service for span in found)
                if records % 500 == 0:
                    progress.came_to(record.arrival_ns, records, spans)
        self._console.print(
            f"{source.name}: {records:,} records, {spans:,} spans, {len(traces):,} traces,"
            f" {len(services):,} services; {unreadable:,} unreadable. Nothing was sent."
        )
        return 0

    async def _list(self, _: argparse.Namespace) -> int:
        async with Journal(self._database_url) as journal:
            rows = await journal.all()
        if not rows:
            self._console.print("no replay yet: python -m replay run --help")
            return 0
        table = Table("name", "state", "source", "from", "spans", "new", "amended", "same", "alerts", box=SIMPLE_HEAD)
        for column in table.columns[4:]:
            column.justify = "right"
        for row in rows:
            counts = map(_count, (row.traces_new, row.traces_amended, row.traces_unchanged, row.alerts))
            begins = _time(row.from_time) or "the beginning"
            table.add_row(row.name, row.state, row.source, begins, f"{row.spans:,}", *counts)
        self._console.print(table)
        return 0

    async def _status(self, arguments: argparse.Namespace) -> int:
        async with Journal(self._database_url) as journal:
            row = await journal.found(arguments.name)
        for label, value in _described(row):
            self._console.print(f"{label:>10}  {value}", markup=False)
        return 0

    async def _cancel(self, arguments: argparse.Namespace) -> int:
        async with Journal(self._database_url) as journal:
            row = await journal.found(arguments.name)
            if row.state in ("done", "cancelled"):
                raise ReplayError(f"replay {row.name} is {row.state} already")
            is_running = row.state in ("running", "draining")
            await journal.set(row.replay_id, cancel_requested=True, **({} if is_running else {"state": "cancelled"}))
        self._console.print(f"replay {row.name} is {'being ' if is_running else ''}cancelled; what it sent stays")
        return 0

    async def _backtest(self, arguments: argparse.Namespace) -> int:
        labels = read_labels(arguments.labels) if arguments.labels else None
        rules = existing_file(arguments.rules)
        stretch = chosen_stretch(arguments, time.time_ns())
        source = chosen_source(arguments, stretch, self._kafka, self._database_url)
        name = uuid.uuid4().hex[:8]
        with shown(self._console, stretch, source.total_records) as progress:
            progress.phase(f"under {arguments.rules.name}")
            tried = await backtest(self._kafka, self._settings, source, rules, f"{name}-tried", progress)
            progress.phase("under the rules in force")
            in_force = await backtest(self._kafka, self._settings, source, None, f"{name}-in-force", progress)
        self._print_episodes(f"{arguments.rules.name}: {len(tried)} alerts", tried)
        compared = difference(tried, in_force)
        self._print_episodes(f"only under {arguments.rules.name}: {len(compared.only_first)}", compared.only_first)
        self._print_episodes(f"only under the rules in force: {len(compared.only_second)}", compared.only_second)
        scores = ["", ""]
        if labels is not None:
            scores = [scored(_within(stretch, labels), _raised(each, stretch)).line() for each in (tried, in_force)]
            for title, score in zip((arguments.rules.name, "in force"), scores, strict=True):
                self._console.print(f"{title}: {score}")
        result = Result(name, arguments.rules.name, source.name, stretch, compared, *scores)
        try:
            await keep(self._database_url, result)
        except psycopg.Error as error:
            reason = str(error).strip().partition("\n")[0]
            self._console.print(f"the result is not kept for the dashboard: {reason}", markup=False)
        return 0

    def _print_episodes(self, title: str, episodes: "list[Episode] | tuple[Episode, ...]") -> None:
        table = Table(
            "starts", "ends", "severity", "alert", "service", "operation", "evidence", title=title, title_justify="left"
        )
        for episode in episodes:
            alert = episode.alert
            evidence = alert.evidence
            against = "" if evidence.baseline is None else f" against {evidence.baseline:.4g}"
            table.add_row(
                _time(utc(alert.starts_at_ns)), _time(utc(episode.ends_at_ns)), alert.severity,
                alert.labels.get("alertname", ""), alert.service, alert.labels.get("operation", ""),
                f"{evidence.observed:.4g}{against} {evidence.unit}",
            )  # fmt: skip
        self._console.print(table if episodes else title)


def existing_file(path: Path) -> Path:
    """An absolute path. Raises ``ReplayError`` if no file is there."""
    if not path.is_file():
        raise ReplayError(f"{path} is no file")
    return path.resolve()


def _raised(episodes: list[Episode], stretch: Stretch) -> list[Raised]:
    end_ns = stretch.until_ns or max((e.ends_at_ns or e.alert.updated_at_ns for e in episodes), default=0)
    # From when a person would have been told, not from what the alert then says of its beginning.
    return [Raised(e.alert.service, e.alert.updated_at_ns / 1e9, (e.ends_at_ns or end_ns) / 1e9) for e in episodes]


def _within(stretch: Stretch, faults: list[Fault]) -> list[Fault]:
    """Faults that the stretch could show."""
    from_s, until_s = (stretch.from_ns or 0) / 1e9, (stretch.until_ns or 2**62) / 1e9
    return [fault for fault in faults if fault.start_s < until_s and fault.end_s > from_s]


def _described(row: ReplayRow) -> list[tuple[str, object]]:
    described: list[tuple[str, object]] = [
        ("name", row.name),
        ("id", row.replay_id),
        ("state", row.state),
        ("source", row.source),
        ("stretch", f"{_time(row.from_time) or 'the beginning'} to {_time(row.until_time) or 'the end'}"),
        ("sent", f"{row.records:,} records, {row.spans:,} spans; {row.unreadable:,} unreadable"),
    ]
    if row.traces_new is not None:
        traces = f"{row.traces_new:,} new, {row.traces_amended:,} amended, {row.traces_unchanged:,} unchanged"
        described += [("traces", traces), ("alerts", f"{row.alerts or 0:,}")]
    if row.failure:
        described.append(("failure", row.failure))
    return described


def _time(time: object) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


if __name__ == "__main__":
    sys.exit(main())
