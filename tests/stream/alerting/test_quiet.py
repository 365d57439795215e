"""Quiet is quiet: what is no incident raises no alert, from rounds to alert events.

| what happens                                              | alerts |
|-----------------------------------------------------------|--------|
| an ordinary hour                                          | 0      |
| a day, in six hours, whose traffic falls tenfold at night | 0      |
| the worker restarts, and reads the last half hour again   | 0      |
| the worker restarts, and knows nothing                    | 0      |
| no span comes for ten minutes, and then slow ones first   | 0      |
| a cold start of a system that is slow and fails           | 0      |
| a partition's worker is gone for five minutes             | 0      |
| an hour, such a gap, and then a real fault                | 1      |
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from stream.alerting.alerting import Alerting
from stream.alerting.watch import Watch
from stream.detection.round import Round
from stream.detection.round_merger import WholeWindow
from tests.stream.detection.system import System
from tracecore.alert import Alert

HOUR = 360
DAY = 6 * HOUR


def of_window(window: WholeWindow, partition: int = 0, partitions: int = 1) -> Round:
    operations, hops = list(window.operations.values()), list(window.hops.values())
    return Round(window.end_ns, window.arrival_ns, partition, partitions, True, operations, hops)


def rounds(system: System, windows: int) -> Iterator[Round]:
    for _ in range(windows):
        yield of_window(system.window())


def told(watch: Watch, coming: Iterator[Round]) -> list[Alert]:
    offsets = itertools.count()
    return [alert for round_ in coming for alert in watch.on_round(round_, 0, next(offsets))]


def ordinary_hour(watch: Watch) -> Iterator[Round]:
    yield from rounds(System(failing={"payment": 0.01}), HOUR)


def tenfold_night(watch: Watch) -> Iterator[Round]:
    system = System(failing={"payment": 0.01})
    for window in range(DAY):
        system.rate = 20 * 10 ** (-0.5 - 0.5 * math.cos(2 * math.pi * window / DAY))
        yield of_window(system.window())


def restart_that_looks_back(watch: Watch) -> Iterator[Round]:
    system = System()
    before = list(rounds(system, HOUR))
    yield from before
    for round_ in before[-HOUR // 2 :]:
        watch.learn(round_)
    yield from rounds(system, HOUR)


def restart_that_knows_nothing(watch: Watch) -> Iterator[Round]:
    system = System()
    for _ in range(HOUR):
        system.window()
    yield from rounds(system, HOUR)


def gap_of_ten_minutes(watch: Watch) -> Iterator[Round]:
    system = System()
    yield from rounds(system, HOUR)
    system.own_factor = {"store": 10.0, "payment": 10.0}
    yield of_window(system.window(skipped=60))
    yield from rounds(system, 2)
    system.own_factor = {}
    yield from rounds(system, HOUR)


def cold_start(watch: Watch) -> Iterator[Round]:
    yield from rounds(System(own_factor={"store": 50}, gap_factor={"cart": 100}, failing={"payment": 0.3}), HOUR)


def partition_is_gone(watch: Watch) -> Iterator[Round]:
    system = System()
    for window in range(2 * HOUR):
        whole = system.window()
        # Traces are halved between the partitions; the second one's worker is gone for five minutes.
        for partition in (0, 1):
            if not (partition == 1 and HOUR <= window < HOUR + 30):
                yield of_window(_half(whole), partition, 2)


def _half(window: WholeWindow) -> WholeWindow:
    operations = {
        key: replace(now, count_milli=now.count_milli // 2, self_time={b: n // 2 for b, n in now.self_time.items()})
        for key, now in window.operations.items()
    }
    hops = {
        key: replace(now, count_milli=now.count_milli // 2, gap={b: n // 2 for b, n in now.gap.items()})
        for key, now in window.hops.items()
    }
    return replace(window, operations=operations, hops=hops)


QUIET = [
    ordinary_hour,
    tenfold_night,
    restart_that_looks_back,
    restart_that_knows_nothing,
    gap_of_ten_minutes,
    cold_start,
    partition_is_gone,
]


@pytest.mark.parametrize("happens", QUIET, ids=lambda happens: happens.__name__)
def test_what_is_no_incident_raises_no_alert(happens: Callable[[Watch], Iterator[Round]]) -> None:
    watch = Watch(Alerting())
    assert [(alert.labels["alertname"], alert.service) for alert in told(watch, happens(watch))] == []


def test_fault_after_a_quiet_hour_with_a_gap_is_one_alert_that_ends() -> None:
    system = System()

    def happens() -> Iterator[Round]:
        yield from rounds(system, HOUR)
        yield of_window(system.window(skipped=60))
        yield from rounds(system, 12)
        system.own_factor = {"store": 10.0}
        yield from rounds(system, 18)
        system.own_factor = {}
        yield from rounds(system, 30)

    events = told(Watch(Alerting()), happens())
    assert [(alert.status, alert.service) for alert in events] == [("firing", "store"), ("resolved", "store")]
