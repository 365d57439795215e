"""A run: start the deployment, let the load and the faults at it, wait until it has settled, count."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import psycopg

from quickstart.process import ManagedProcess
from quickstart.program import ROOT
from stream.alerting.rules import DEFAULT_RULES
from tests.chaos import counting, settling
from tests.chaos.books import AlertEvent, Books, alert_balance, balance, read_books
from tests.chaos.deployment import Deployment
from tests.chaos.faulting import Faulting
from tests.chaos.load import Plan
from tests.chaos.outcome import Outcome, RunPlan
from tests.chaos.poison import TRACE_ID_BEGINS
from tests.chaos.sampling import Samples
from tests.chaos.settling import Told

_LOAD_ENDS_WITHIN_S: Final = 120.0


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
        await faulting.run(plan.faults, began_s, plan.duration_s)
        await settling.until_load_ended(load, began_s + plan.duration_s + _LOAD_ENDS_WITHIN_S)
        told(f"the load has ended after {time.monotonic() - began_s:.0f} s")
        ended_s = time.monotonic()
        books = _read(books_path)
        await settling.settled(url, books, told)
        await settling.resolved(url, plan.resolve_after_s + 60.0, told)
        settled_after_s = time.monotonic() - ended_s
        for task in background:
            if task.done():
                task.result()  # a bug of ours
        after = await _held(deployment, url, run_dir)
        letters, others = await counting.dead_letters(deployment.broker.bootstrap_servers)
        topic = await counting.alert_events(deployment.broker.bootstrap_servers)
        rows = await asyncio.to_thread(counting.stored_alerts, url)
        await settling.told_to_client(received, topic)
        return Outcome(
            plan=plan,
            books=books,
            balance=await asyncio.to_thread(lambda: balance(books, counting.stored_traces(url), [TRACE_ID_BEGINS])),
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
    lines = ["rules:"]
    for rule in DEFAULT_RULES:
        lines += [f"  - name: {rule.name}", f"    kinds: [{', '.join(rule.kinds)}]", f"    severity: {rule.severity}"]
        lines += [f"    min_count: {rule.min_count:g}", f"    within: {rule.within_ns // 10**9}s"]
        lines += [f"    learns: {str(rule.learns).lower()}", f"    resolve_after: {resolve_after_s:g}s"]
        if rule.match:
            lines.append("    match: {" + ", ".join(f"{name}: {value}" for name, value in rule.match) + "}")
    return "\n".join(lines) + "\n"
