"""A run: start the deployment, let the load and the faults at it, wait until it has settled, count."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psycopg

from quickstart.process import ManagedProcess
from quickstart.program import ROOT
from tests.chaos import counting
from tests.chaos.books import AlertBalance, AlertEvent, Balance, Books, alert_balance, balance, read_books
from tests.chaos.deployment import Death, Deployment
from tests.chaos.faulting import Faulting
from tests.chaos.leaks import Bounds
from tests.chaos.load import Plan
from tests.chaos.poison import POISON_SERVICE
from tests.chaos.sampling import Samples
from tests.chaos.schedule import Fault, Incident

#: How long after the last span everything may take to be stored.
SETTLES_WITHIN_S: Final = 120.0
#: Nothing new for so long, and what is not there will not come.
SETTLED_AFTER_S: Final = 25.0
_LOAD_ENDS_WITHIN_S: Final = 120.0

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """All that decides a run."""

    seed: int
    duration_s: float
    spans_per_s: float
    faults: Sequence[Fault]
    incidents: Sequence[Incident]
    poison_per_s: float = 1.0
    streams: int = 2
    sinks: int = 1
    #: An alert is over after so long without evidence.
    resolve_after_s: float = 60.0
    sample_every_s: float = 15.0
    #: What may grow; None for runs too short to tell.
    bounds: Bounds | None = None


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    plan: RunPlan
    books: Books
    balance: Balance
    alerts: AlertBalance
    dead_letters: Counter[int]
    other_letters: int
    totals: dict[str, int]
    window_differences: list[tuple[str, int, int, int]]
    deaths: list[Death]
    faults_done: int
    fault_failures: list[str]
    samples: Samples
    held: dict[str, tuple[int, int]]
    settled_after_s: float


async def run(plan: RunPlan, run_dir: Path, told: Told) -> Outcome:
    """Raises QuickstartError if the deployment cannot be started."""
    rules = run_dir / "rules.yaml"
    rules.write_text(_rules(plan.resolve_after_s))
    temporary = run_dir / "tmp"
    temporary.mkdir()
    # Rooms put their temporary files where they can be counted.
    environment = {"TRACEWATCH_STREAM_ALERT_RULES": str(rules), "TMPDIR": str(temporary)}
    deployment = Deployment(run_dir, streams=plan.streams, sinks=plan.sinks, environment=environment)
    try:
        await deployment.start()
        told("everything serves")
        return await _run(plan, deployment, run_dir, told)
    finally:
        await deployment.close()


async def _run(plan: RunPlan, deployment: Deployment, run_dir: Path, told: Told) -> Outcome:
    url = deployment.postgres.url
    received: list[AlertEvent] = []
    samples = Samples()
    watching = asyncio.create_task(counting.watch_feed(deployment.live_url, received))
    load, books_path = _load(plan, deployment, run_dir)
    load.start()
    while not books_path.exists() or not books_path.stat().st_size:
        load.raise_if_ended()
        await asyncio.sleep(0.05)
    began_s = time.monotonic()
    before = await _held(deployment, url, run_dir)
    background = [
        watching,
        asyncio.create_task(deployment.keep(began_s)),
        asyncio.create_task(
            _sample(deployment, load, samples, began_s, plan.sample_every_s, run_dir / "samples.jsonl")
        ),
    ]
    faulting = Faulting(deployment, told)
    try:
        await faulting.run(plan.faults, began_s)
        await _until_load_ended(load, began_s + plan.duration_s + _LOAD_ENDS_WITHIN_S)
        told(f"the load has ended after {time.monotonic() - began_s:.0f} s")
        ended_s = time.monotonic()
        books = _read(books_path)
        await _settled(url, books, told)
        await _resolved(url, plan.resolve_after_s + 60.0, told)
        settled_after_s = time.monotonic() - ended_s
        for task in background:
            if task.done():
                task.result()  # a bug of ours
        after = await _held(deployment, url, run_dir)
        letters, others = await counting.dead_letters(deployment.broker.bootstrap_servers)
        topic = await counting.alert_events(deployment.broker.bootstrap_servers)
        rows = await asyncio.to_thread(counting.stored_alerts, url)
        await _received(received, topic)
        return Outcome(
            plan=plan,
            books=books,
            balance=await asyncio.to_thread(lambda: balance(books, counting.stored_traces(url), [_POISON_ID])),
            alerts=alert_balance(books.incidents, topic, rows, received),
            dead_letters=letters,
            other_letters=others,
            totals=await asyncio.to_thread(counting.totals, url),
            window_differences=await asyncio.to_thread(counting.window_differences, url),
            deaths=deployment.deaths,
            faults_done=faulting.done,
            fault_failures=faulting.failures,
            samples=samples,
            held={name: (before[name], after[name]) for name in before},
            settled_after_s=settled_after_s,
        )
    finally:
        load.stop(grace_s=3)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


#: Of the traces that hold poison (``poison``).
_POISON_ID: Final = b"\0\0\0\0\0\0\x0b\xad"


def _load(plan: RunPlan, deployment: Deployment, run_dir: Path) -> tuple[ManagedProcess, Path]:
    plan_path, books_path = run_dir / "plan.json", run_dir / "books.jsonl"
    steps = [(f.at_s, f.at_s + f.lasts_s, f.step_s) for f in plan.faults if f.kind == "clock_step"]
    planned = Plan(
        bootstrap_servers=deployment.broker.bootstrap_servers,
        gateway_url=deployment.gateway_url,
        spans_per_s=plan.spans_per_s,
        duration_s=plan.duration_s,
        clock_steps=steps,
        incidents=[(incident.at_s, incident.operation) for incident in plan.incidents],
        poison_per_s=plan.poison_per_s,
    )
    plan_path.write_bytes(msgspec.json.encode(planned))
    argv = [sys.executable, "-m", "tests.chaos.load", str(plan_path), str(books_path)]
    return ManagedProcess("load", argv, log_path=run_dir / "load.log", cwd=ROOT), books_path


async def _sample(
    deployment: Deployment, load: ManagedProcess, samples: Samples, began_s: float, every_s: float, kept: Path
) -> None:
    """For ever; also appends to ``kept``, so that a run that is ended early has told what it saw."""
    ports = deployment.metrics_ports()
    while True:
        pids = deployment.pids() | ({"load": load.pid} if load.pid is not None else {})
        taken = await asyncio.to_thread(samples.take, pids, ports, time.monotonic() - began_s)
        with kept.open("ab") as lines:
            lines.write(msgspec.json.encode(taken) + b"\n")
        await asyncio.sleep(every_s)


async def _until_load_ended(load: ManagedProcess, deadline_s: float) -> None:
    while load.is_running and time.monotonic() < deadline_s:  # noqa: ASYNC110  a process
        await asyncio.sleep(0.2)
    if load.is_running:
        await asyncio.to_thread(load.stop, grace_s=5)
    elif load.returncode:
        load.raise_if_ended()


async def _settled(url: str, books: Books, told: Told) -> None:
    """Until the history has as many rows as were acknowledged, and statistics of each; or nothing new comes."""
    began_s = changed_s = time.monotonic()
    last: tuple[int, ...] = ()
    wanted = books.acknowledged_traces
    while time.monotonic() - began_s < SETTLES_WITHIN_S and time.monotonic() - changed_s < SETTLED_AFTER_S:
        found = await asyncio.to_thread(_progress, url)
        if found != last:
            last, changed_s = found, time.monotonic()
        traces, rows, counted = found
        if traces >= wanted and rows == counted:
            break
        await asyncio.sleep(2.0)
    told(f"{last[0]} traces, {last[1]} spans, {last[2]} of them in windows")


def _progress(url: str) -> tuple[int, int, int]:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(span_count), 0), (SELECT coalesce(sum(spans), 0) FROM operation_minutes"
            f" WHERE service <> '{POISON_SERVICE}') FROM traces"
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])
    return 0, 0, 0


async def _resolved(url: str, within_s: float, told: Told) -> None:
    """Until no alert fires."""
    deadline = time.monotonic() + within_s
    quiet = 0
    while time.monotonic() < deadline and quiet < 3:
        stored = await asyncio.to_thread(counting.stored_alerts, url)
        quiet = 0 if "firing" in stored.values() else quiet + 1
        await asyncio.sleep(1.0)
    told(f"{len(stored)} alerts, {sum(status == 'firing' for status in stored.values())} of them still firing")


async def _received(received: Sequence[AlertEvent], topic: Sequence[AlertEvent]) -> None:
    """Give the live feed a moment to tell what stands on the topic."""
    deadline = time.monotonic() + 15.0
    while len(received) < len(topic) and time.monotonic() < deadline:  # noqa: ASYNC110  another task fills it
        await asyncio.sleep(0.2)


async def _held(deployment: Deployment, url: str, run_dir: Path) -> dict[str, int]:
    """What could leak and is nobody's memory."""
    topics = await counting.topics(deployment.broker.bootstrap_servers)
    with psycopg.connect(url) as connection:
        (backends,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL"
        ).fetchone() or (0,)
    files = sum(1 for _ in (run_dir / "tmp").iterdir())
    return {"topics": len(topics), "connections to PostgreSQL": int(backends), "temporary files": files}


def _read(books_path: Path) -> Books:
    with books_path.open() as lines:
        return read_books(lines)


def _rules(resolve_after_s: float) -> str:
    from stream.alerting.rules import DEFAULT_RULES

    lines = ["rules:"]
    for rule in DEFAULT_RULES:
        lines += [f"  - name: {rule.name}", f"    kinds: [{', '.join(rule.kinds)}]", f"    severity: {rule.severity}"]
        lines += [f"    min_count: {rule.min_count:g}", f"    within: {rule.within_ns // 10**9}s"]
        lines += [f"    learns: {str(rule.learns).lower()}", f"    resolve_after: {resolve_after_s:g}s"]
        if rule.match:
            lines.append("    match: {" + ", ".join(f"{name}: {value}" for name, value in rule.match) + "}")
    return "\n".join(lines) + "\n"
