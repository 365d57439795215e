"""``python -m tests.chaos chaos`` (minutes under faults) and ``soak`` (an hour of load). Exit code 1: not good."""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import report, schedule
from tests.chaos.leaks import Bounds
from tests.chaos.outcome import RunPlan
from tests.chaos.run import run

SPANS_PER_S = 2000.0
INCIDENT_EVERY_S = 20.0
STREAMS = 2
#: Of a soak: three workers, restarted one a minute in its first part.
SOAK_STREAMS, SOAK_INCIDENT_EVERY_S = 3, 120.0
CHURN_SHARE, RESTART_EVERY_S = 0.3, 60.0


def chaos_plan(
    seed: int, duration_s: float, spans_per_s: float = SPANS_PER_S, resolve_after_s: float = 60.0
) -> RunPlan:
    """Everything fails, in an order drawn from ``seed``."""
    rooms = [*(f"stream-{number}" for number in range(1, STREAMS + 1)), "sink-1", "live_api", "gateway"]
    return RunPlan(
        seed=seed,
        duration_s=duration_s,
        spans_per_s=spans_per_s,
        faults=schedule.faults(seed, duration_s, rooms),
        incidents=schedule.incidents(duration_s, INCIDENT_EVERY_S),
        streams=STREAMS,
        resolve_after_s=resolve_after_s,
    )


def soak_plan(duration_s: float, spans_per_s: float = SPANS_PER_S, restart_every_s: float = RESTART_EVERY_S) -> RunPlan:
    """Load for long. Workers are restarted in turn at first; then all is left alone, so that memory can be judged."""
    workers = [f"stream-{number}" for number in range(1, SOAK_STREAMS + 1)]
    return RunPlan(
        seed=0,
        duration_s=duration_s,
        spans_per_s=spans_per_s,
        faults=schedule.rolling_restarts(duration_s * CHURN_SHARE, restart_every_s, workers),
        incidents=schedule.incidents(duration_s, SOAK_INCIDENT_EVERY_S),
        streams=SOAK_STREAMS,
        bounds=Bounds(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = parsed.plan(parsed)
    for fault in plan.faults:
        print(f"planned  {fault}")
    began_s = time.monotonic()

    def told(line: str) -> None:
        print(f"[{time.monotonic() - began_s:6.1f}] {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="tracewatch-chaos-") as temporary:
        folder = parsed.run_dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(run(plan, folder, told))
    print("\n".join(report.lines(outcome)))
    return 1 if report.problems(outcome) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    chaos = commands.add_parser("chaos", help="everything fails, again and again; nothing may be lost or double")
    chaos.add_argument("--seed", type=int, default=1)
    chaos.add_argument("--minutes", type=float, default=10.0)
    chaos.set_defaults(plan=lambda parsed: chaos_plan(parsed.seed, parsed.minutes * 60, parsed.rate))
    soak = commands.add_parser("soak", help="an hour of load: flat memory, no leak, no gap while workers come and go")
    soak.add_argument("--minutes", type=float, default=60.0)
    soak.add_argument("--restart-every", type=float, default=RESTART_EVERY_S, metavar="SECONDS")
    soak.set_defaults(plan=lambda parsed: soak_plan(parsed.minutes * 60, parsed.rate, parsed.restart_every))
    for command in (chaos, soak):
        command.add_argument("--rate", type=float, default=SPANS_PER_S, metavar="SPANS", help="spans a second")
        command.add_argument("--run-dir", type=Path, help="where logs are kept; default: thrown away")
    return parser


if __name__ == "__main__":
    sys.exit(main())
