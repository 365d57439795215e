"""What a run is told as, and whether it was good. Pure."""

from collections.abc import Iterator
from typing import Final

from tests.chaos.books import Missing
from tests.chaos.leaks import cores, lag_quarters, last_life, leak_problems, memory_slope
from tests.chaos.outcome import Outcome
from tests.chaos.schedule import faults_near
from tests.chaos.traffic import told_by

#: Lines of one kind that are told one by one.
TOLD: Final = 20
#: Pairs of sums that have to be the same.
AGREE: Final = (("error rows", "error_group_minutes"), ("calls in traces", "service_dependencies"))
#: Sums that hold every row once ...
COUNTED: Final = ("operation_windows", "operation_minutes", "operation_hours")
#: ... and no more than this share twice. A span whose acknowledgement an outage swallowed is sent again. If a worker
#: began in between, and the second copy comes later than a window's grace, nobody knows any more that it was counted.
COUNTED_AGAIN_AT_MOST: Final = 0.02


def problems(outcome: Outcome) -> list[str]:
    """Why the run was not good, in words; empty if it was."""
    balance, books = outcome.balance, outcome.books
    found = list(outcome.fault_failures)
    if books.ended_at_s is None:
        found.append("the load did not end by itself: something was not acknowledged to the last")
    if balance.lost:
        found.append(f"{balance.lost_spans} acknowledged spans of {len(balance.lost)} traces are lost")
    if balance.doubled_spans:
        found.append(f"{balance.doubled_spans} spans are stored twice")
    if balance.miscounted:
        found.append(f"{len(balance.miscounted)} traces count other than they have rows: {_ids(balance.miscounted)}")
    if balance.foreign:
        found.append(f"{len(balance.foreign)} traces that nobody sent: {_ids(balance.foreign)}")
    found += [f"alert: {wrong}" for wrong in outcome.alerts.wrong]
    unread = sorted(books.poison.keys() - outcome.dead_letters.keys())
    if unread:
        found.append(f"{len(unread)} poison records are not among the dead letters: {unread[:TOLD]}")
    if outcome.other_letters:
        found.append(f"{outcome.other_letters} dead letters are no poison: something good was refused")
    rows = outcome.totals["rows"]
    for name in COUNTED:
        if not rows <= outcome.totals[name] <= rows * (1 + COUNTED_AGAIN_AT_MOST):
            found.append(f"{name} say {outcome.totals[name]}, rows {rows}")
    for one, other in AGREE:
        if outcome.totals[one] != outcome.totals[other]:
            found.append(f"{other} say {outcome.totals[other]}, {one} {outcome.totals[one]}")
    if (bounds := outcome.plan.bounds) is not None:
        samples = outcome.samples
        found += leak_problems(samples.by_name, samples.lag, outcome.held, outcome.plan.duration_s, bounds)
    return found


def lines(outcome: Outcome) -> Iterator[str]:
    """The whole report."""
    plan, books, balance = outcome.plan, outcome.books, outcome.balance
    yield f"seed {plan.seed}, {plan.duration_s:.0f} s at {plan.spans_per_s:.0f} spans/s"
    yield f"faults            {outcome.faults_done} of {len(plan.faults)} carried out; {_deaths(outcome)}"
    yield (
        f"spans             {balance.acknowledged_spans} acknowledged, {balance.lost_spans} lost,"
        f" {balance.doubled_spans} double; {balance.in_doubt_spans} in doubt"
    )
    alerts = outcome.alerts
    yield (
        f"alerts            {alerts.episodes} ({alerts.incidents} incidents), {len(alerts.wrong)} wrong;"
        f" {alerts.repeated} events stand twice on the topic"
    )
    letters = outcome.dead_letters
    yield (
        f"poison            {len(books.poison)} records,"
        f" {len(letters.keys() & books.poison.keys())} among the dead letters,"
        f" {sum(letters.values()) - len(letters)} times again"
    )
    yield "sums              " + ", ".join(f"{name} {count}" for name, count in outcome.totals.items())
    yield f"settled           {outcome.settled_after_s:.0f} s after the last span"
    yield from _processes(outcome)
    for death in outcome.deaths:
        yield f"died by itself at {death.at_s:.1f} s: {death.name}, exit {death.returncode}"
        yield from ("    " + line for line in death.last_words.splitlines()[-6:])
    yield from _losses(outcome, balance.lost)
    for entrance, unix_s, rows, counted in outcome.window_differences[: 2 * TOLD]:
        at_s = unix_s - books.began_unix_s
        yield f"window of {entrance} at {at_s:.0f} s: {rows} rows, {counted} counted ({counted - rows:+d})"
    found = problems(outcome)
    yield from (f"WRONG  {problem}" for problem in found)
    yield "failed" if found else "good"


def _losses(outcome: Outcome, lost: list[Missing]) -> Iterator[str]:
    """Which traces are missing, and what went wrong around the time they were sent."""
    for missing in sorted(lost, key=lambda one: one.acknowledged_at_s)[:TOLD]:
        name = told_by(missing.trace_id)
        assert name is not None
        yield (
            f"lost: trace {missing.trace_id.hex()} ({name[0]} number {name[1]}), acknowledged at"
            f" {missing.acknowledged_at_s:.1f} s, {missing.rows} of its spans are there; faults near:"
        )
        yield from (f"    {fault}" for fault in faults_near(outcome.plan.faults, missing.acknowledged_at_s))


def _processes(outcome: Outcome) -> Iterator[str]:
    until_s = outcome.plan.duration_s
    yield f"{'process':<16}{'cores':>7}{'memory MB':>17}{'MB/h':>8}{'files':>12}{'sockets':>12}{'threads':>12}"
    for name, samples in outcome.samples.by_name.items():
        life = last_life(samples, until_s)
        if not life:
            continue
        first, last = life[0], life[-1]
        yield (
            f"{name:<16}{cores(samples, until_s):>7.2f}{first.memory_mb:>8.0f} ->{last.memory_mb:>6.0f}"
            f"{memory_slope(life):>8.1f}{first.files:>6} ->{last.files:>3}{first.sockets:>6} ->{last.sockets:>3}"
            f"{first.threads:>6} ->{last.threads:>3}"
        )
    for name, (before, after) in outcome.held.items():
        yield f"{name:<34}{before} -> {after}"
    before, after = lag_quarters(outcome.samples.lag, until_s)
    yield f"{'lag, records (median of a quarter)':<34}{before:.0f} -> {after:.0f}"


def _ids(trace_ids: list[bytes]) -> str:
    return ", ".join(trace_id.hex() for trace_id in trace_ids[:TOLD])


def _deaths(outcome: Outcome) -> str:
    return f"{len(outcome.deaths)} processes ended by themselves and were started again"
