"""How fast a recording is replayed, what that costs live alerts, and whether a replayed day is the day again.

    python -m bench replay [speed] [beside] [day] [--broker apache|embedded] [--minutes M] [--kills N]
                           [--alerts 300] [--spans-per-s 1000]

The recording is ob22 (../shared/data), or its first M minutes. A speed is the recorded time over the wall time of the
whole command, its start and its end phase included; the bound is 50.

speed   a file into an empty history.
beside  the same beside live traffic: the delay of live alerts, whose 99th percentile is to stay within 1.5 times of
        what it is without a replay, and whether live alerts changed.
day     the recording is ingested as live spans are, tables are dropped, the topic of spans is replayed: checksums of
        spans, traces, links and windows are to be equal. With --kills N the replay is killed N times at random moments
        and resumed.
"""

import argparse
import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Final

from bench.deployment import Deployment, Replayed, deployment
from bench.end_to_end import Heard, measured, provider_for
from bench.replay_day import Day
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch, unix_seconds

RECORDING: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "ob22.otlp.zst"
MIN_SPEED: Final = 50.0
MAX_DELAY_RATIO: Final = 1.5
PARTS: Final = ("speed", "beside", "day")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["speed", "beside"], help="speed, beside, day (speed, beside)")
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--minutes", type=float, help="of the recording (speed and beside: 60; day: all of it)")
    parser.add_argument("--alerts", type=int, default=300)
    parser.add_argument("--spans-per-s", type=float, default=1000.0)
    parser.add_argument("--speed", default="max", help="beside: how fast the replay goes (max)")
    parser.add_argument("--kills", type=int, default=0, help="day: how often the replay is killed and resumed")
    parser.add_argument(
        "--wait", action="store_true", help="day: wait for Enter before the replay, for a quiet machine"
    )
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10_000, help="of the moments of the kills")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()!r}")
    run = {"speed": _speed, "beside": _beside, "day": _day}
    kept = [run[part](arguments) for part in arguments.parts]
    sys.exit(0 if all(kept) else 1)


def _speed(arguments: argparse.Namespace) -> bool:
    with deployment(arguments.broker, {}) as deployed:
        for room in ("stream", "sink", "live_api"):
            deployed.start(room)
        return _is_fast("alone", *_replayed_file(deployed, arguments))


def _is_fast(title: str, replayed: Replayed, recorded_s: float) -> bool:
    print(*replayed.lines(), sep="\n")
    speed = recorded_s / replayed.took_s
    rate = replayed.spans / replayed.took_s
    print(f"{title}: {speed:.0f} times as fast as it was (bound {MIN_SPEED:.0f}); {rate:,.0f} spans/s", flush=True)
    return speed >= MIN_SPEED


def _beside(arguments: argparse.Namespace) -> bool:
    with deployment(arguments.broker, {}) as deployed:
        for room in ("stream", "sink"):
            deployed.start(room)
        live_port = deployed.start("live_api")
        provider = provider_for(deployed.bootstrap_servers)
        deployed.stack.callback(provider.shutdown)

        def heard(name: str) -> Heard:
            return asyncio.run(measured(provider, live_port, arguments.alerts, arguments.spans_per_s, name))

        heard("warms up")  # until every process has seen the like
        without = heard("fails alone")
        replay = threading.Thread(target=lambda: print(*_replayed_file(deployed, arguments)[0].lines()))
        replay.start()
        time.sleep(5)  # its worker starts
        beside = heard("fails beside")
        was_covered = replay.is_alive()
        replay.join()
    return _is_calm(without, beside, was_covered)


def _is_calm(without: Heard, beside: Heard, was_covered: bool) -> bool:
    for title, one in (("without a replay", without), ("beside a replay", beside)):
        median, p99 = (one.delays.quantile_ns(quantile) / 1e6 for quantile in (0.5, 0.99))
        print(
            f"{title}: {one.spans_per_s:,.0f} live spans/s; {len(one.delays)} alerts, median {median:.0f} ms,"
            f" p99 {p99:.0f} ms; heard {dict(one.alerts)}"
        )
    ratio = beside.delays.quantile_ns(0.99) / without.delays.quantile_ns(0.99)
    covered = "all along" if was_covered else "for a part of it only: take fewer --alerts, or more --minutes"
    same = "the same" if beside.alerts == without.alerts else "OTHER"
    print(
        f"p99 {ratio:.2f} times (bound {MAX_DELAY_RATIO}), the replay ran {covered}; live alerts were {same}",
        flush=True,
    )
    return ratio <= MAX_DELAY_RATIO and beside.alerts == without.alerts


def _day(arguments: argparse.Namespace) -> bool:
    first_ns, until_ns = asyncio.run(stretch_of(arguments.minutes))
    with deployment(arguments.broker, {}) as deployed:
        day = Day(deployed, RECORDING, Stretch(None, until_ns))
        day.ingest()
        day.drop_tables()
        if arguments.wait:
            input("Enter to replay: ")
        replayed = day.replayed(arguments.kills, arguments.seed)
        is_same = day.is_the_same()
    is_fast = _is_fast("the day", replayed, (until_ns - first_ns) / 1e9)
    return is_same and (is_fast or bool(arguments.kills))


def _replayed_file(deployed: Deployment, arguments: argparse.Namespace) -> tuple[Replayed, float]:
    first_ns, until_ns = asyncio.run(stretch_of(arguments.minutes or 60))
    stretch = ("--otlp", str(RECORDING), "--to", unix_seconds(until_ns), "--speed", arguments.speed)
    done = deployed.replayed("run", *stretch)
    return done, (until_ns - first_ns) / 1e9


async def stretch_of(minutes: float | None, recording: Path = RECORDING) -> tuple[int, int]:
    """First arrival of a recording, and the end of its first ``minutes`` or of all of it."""
    first_ns = last_ns = 0
    async for record in OtlpFile(recording, Stretch()).records():
        first_ns, last_ns = first_ns or record.arrival_ns, record.arrival_ns
        if minutes:
            return first_ns, first_ns + round(minutes * 60e9)
    return first_ns, last_ns + 1


if __name__ == "__main__":
    main()
