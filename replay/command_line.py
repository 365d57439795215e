"""What a person may type after ``python -m replay``."""

import argparse
from pathlib import Path

_TIMES = "2026-11-22T19:40 (UTC, or with a zone), 2h, 90m ago, Unix seconds, or now"


def parser() -> argparse.ArgumentParser:
    """The parser; ``command`` tells which subcommand was chosen."""
    main = argparse.ArgumentParser(prog="python -m replay", description="Repeat a stretch of history.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="repeat a stretch through the stream and into the history",
        description="Repeat a stretch. Nothing replayed reaches live subscribers, notifications or baselines;"
        " the history takes what it did not have and keeps what it has.",
    )
    _source(run)
    run.add_argument("--service", default="", help="only traces in which this service takes part")
    run.add_argument("--speed", default="max", help="max, or as a multiple of real time: 10x, 1x (default: max)")
    run.add_argument("--spans-per-s", type=float, default=0.0, help="bound of the rate (default: none)")
    run.add_argument("--workers", type=int, default=1, help="stream workers to start (default: 1); 0: you start them")
    run.add_argument("--name", help="to find, resume and cancel it by (default: its id)")
    run.add_argument("--notify", action="store_true", help="tell receivers of notifications of its alerts, as if live")
    run.add_argument("--dry-run", action="store_true", help="read and count, send nothing")

    resume = commands.add_parser("resume", help="go on with a replay that was interrupted or failed")
    resume.add_argument("name")
    resume.add_argument("--speed", help="another speed than before")
    resume.add_argument("--spans-per-s", type=float, help="another bound of the rate than before; 0: none")
    resume.add_argument("--workers", type=int, help="another number of stream workers than before")

    commands.add_parser("list", help="every replay, newest first")
    status = commands.add_parser("status", help="how far a replay is")
    status.add_argument("name")
    cancel = commands.add_parser("cancel", help="stop a running replay; what it sent stays")
    cancel.add_argument("name")

    backtest = commands.add_parser(
        "backtest",
        help="which alerts a stretch raises under other rules",
        description="Run the stretch through a stream worker of its own under the given rules, and again under those"
        " in force, and print what differs. Nothing is stored, nobody is told.",
    )
    _source(backtest)
    backtest.add_argument("--rules", type=Path, required=True, help="file of alert rules to try")
    backtest.add_argument("--labels", type=Path, help="file of labelled faults to score the alerts by")
    return main


def _source(command: argparse.ArgumentParser) -> None:
    source = command.add_argument_group("source (default: the topic of spans)")
    one = source.add_mutually_exclusive_group()
    one.add_argument("--topic", help="any retained topic whose records are OTLP")
    one.add_argument("--otlp", type=Path, metavar="FILE", help="length-delimited protobuf or JSON lines; gzip, zstd")
    one.add_argument("--jaeger", type=Path, metavar="FILE", help="JSON that Jaeger's UI downloads")
    one.add_argument("--zipkin", type=Path, metavar="FILE", help="JSON of Zipkin's API")
    one.add_argument("--history", action="store_true", help="the stored traces")
    source.add_argument("--from", dest="from_time", help=f"arrival: {_TIMES} (default: the beginning)")
    source.add_argument("--to", dest="until_time", help="exclusive (default: now)")
    source.add_argument(
        "--offsets", action="append", metavar="P:FIRST-END", help="offsets of a partition of --topic, the end exclusive"
    )
