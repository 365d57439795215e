"""``python -m quickstart``: run the demo, inject a fault into it, look what is wrong with a deployment."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from quickstart import demo, doctor, faults
from quickstart.diagnosis import report
from quickstart.errors import QuickstartError
from quickstart.ports import USUAL_PORTS
from quickstart.state import DemoState
from tracecore.errors import InvalidSetting


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except QuickstartError as error:
        print(f"tracewatch: {error}", file=sys.stderr)
        return 1


def _run_demo(parsed: argparse.Namespace) -> int:
    return demo.run(
        demo.DemoOptions(
            broker=parsed.broker,
            run_dir=parsed.run_dir,
            ports={name: getattr(parsed, f"{name}_port") for name in USUAL_PORTS},
            with_faults=not parsed.no_faults,
            fault_every_s=parsed.fault_every,
            traces_per_s=parsed.rate,
            stop_after_s=parsed.stop_after,
        )
    )


def _inject_fault(parsed: argparse.Namespace) -> int:
    state = DemoState.read(parsed.run_dir)
    fault = faults.Fault(parsed.kind, parsed.service)
    faults.inject(fault, parsed.duration, state.shop_urls)
    print(f"for {parsed.duration:g} s, {fault.summary}")
    return 0


def _see_doctor(parsed: argparse.Namespace) -> int:
    named = [name for name in ("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS", "TRACEWATCH_DATABASE_URL") if name in os.environ]
    if not named:
        # Where nothing is named, a demo that runs here is meant; without one, what the settings have by default.
        with contextlib.suppress(QuickstartError):
            os.environ.update(DemoState.read(parsed.run_dir).environment)
    try:
        found = doctor.diagnoses()
    except InvalidSetting as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    print(report(found))
    return 1 if any(one.verdict == "broken" for one in found) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quickstart", description="Tracewatch on one machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("demo", help="run the whole pipeline and a demo shop until Ctrl-C")
    run.add_argument(
        "--broker",
        choices=("embedded", "kafka"),
        default="embedded",
        help="embedded: in memory, starts at once (default); kafka: Apache Kafka, needs Java 17 and Maven",
    )
    run.add_argument("--no-faults", action="store_true", help="no fault comes by itself")
    run.add_argument("--fault-every", type=_positive, default=60.0, metavar="SECONDS", help="default 60")
    run.add_argument("--rate", type=_positive, default=8.0, metavar="TRACES", help="traces a second, default 8")
    run.add_argument("--stop-after", type=_positive, metavar="SECONDS", help="end by itself, counted from ready")
    for name, port in USUAL_PORTS.items():
        option = f"--{name.replace('_', '-')}-port"
        run.add_argument(option, type=int, metavar="PORT", help=f"default {port}, or a free one if that is taken")
    run.set_defaults(run=_run_demo)

    fault = commands.add_parser("fault", help="make a service of the running demo fail for a while")
    fault.add_argument("kind", choices=faults.KINDS)
    fault.add_argument("--service", choices=faults.SERVICES, default=faults.FAULTS[0].service)
    fault.add_argument(
        "--for", dest="duration", type=_positive, default=faults.FAULT_DURATION_S, metavar="SECONDS", help="default 20"
    )
    fault.set_defaults(run=_inject_fault)

    look = commands.add_parser(
        "doctor", help="check Kafka, topics, PostgreSQL, migrations, lag and clocks, and say what to do"
    )
    look.set_defaults(run=_see_doctor)

    for command in (run, fault, look):
        command.add_argument(
            "--run-dir", type=Path, default=demo.RUN_DIR, help="where logs and state lie, default run/"
        )
    return parser


def _positive(text: str) -> float:
    value = float(text.removesuffix("s"))
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
