"""Growth is seen, and noise is not taken for it."""

import os
import random

from tests.chaos.leaks import Bounds, last_life, leak_problems, memory_slope, slope_per_h
from tests.chaos.sampling import Sample, sampled

BOUNDS = Bounds(memory_mb_per_h=25, files=6, lag_records=500)
HOUR_S = 3600


def life(grows_mb_per_h: float = 0.0, pid: int = 1, begins_s: int = 0, sockets_per_h: float = 0.0) -> list[Sample]:
    noise = random.Random(1)
    return [
        Sample(
            at_s, pid, 90 + noise.uniform(-3, 3) + grows_mb_per_h * at_s / HOUR_S, 20,
            8 + round(sockets_per_h * at_s / HOUR_S), 3, at_s * 0.1,
        )
        for at_s in range(begins_s, HOUR_S, 15)
    ]  # fmt: skip


def test_a_slope_is_in_units_an_hour() -> None:
    assert round(slope_per_h([(0, 1.0), (1800, 2.0), (3600, 3.0)]), 6) == 2.0


def test_memory_that_is_flat_but_for_noise_is_well_and_memory_that_grows_is_not() -> None:
    assert not leak_problems({"sink-1": life()}, [], {}, HOUR_S, BOUNDS)
    assert leak_problems({"sink-1": life(40)}, [], {}, HOUR_S, BOUNDS)
    assert not leak_problems({"broker": life(40)}, [], {}, HOUR_S, BOUNDS)


def test_only_the_last_life_counts_without_its_warm_up() -> None:
    samples = [*life(500, pid=1)[:60], *life(0, pid=2, begins_s=900)]
    assert {sample.pid for sample in last_life(samples, HOUR_S)} == {2}
    assert abs(memory_slope(last_life(samples, HOUR_S))) < 25


def test_sockets_topics_and_lag_are_counted() -> None:
    assert leak_problems({"live_api": life(sockets_per_h=60)}, [], {}, HOUR_S, BOUNDS)
    assert leak_problems({}, [], {"topics": (11, 12)}, HOUR_S, BOUNDS)
    assert leak_problems({}, [(at, at) for at in range(HOUR_S)], {}, HOUR_S, BOUNDS)
    assert not leak_problems({}, [(at, at % 300) for at in range(HOUR_S)], {"topics": (11, 11)}, HOUR_S, BOUNDS)


def test_a_process_tells_what_it_holds() -> None:
    here = sampled(os.getpid(), 1.0)
    assert here is not None
    assert here.memory_mb > 5
    assert here.files > 0
    assert sampled(2**22 + 1, 1.0) is None
