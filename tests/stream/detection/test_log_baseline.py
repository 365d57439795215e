import random

from stream.detection.log_baseline import LogBaseline


def learned(count: int, *, median_ns: float = 1e6, spread: float = 0.5) -> LogBaseline:
    rng = random.Random(7)
    baseline = LogBaseline()
    for _ in range(count):
        baseline.learn(int(median_ns * rng.lognormvariate(0, spread)))
    return baseline


def test_level_and_spread_are_those_of_the_logarithm() -> None:
    baseline = learned(5000)
    assert 0.9e6 < baseline.typical_ns < 1.1e6
    assert 0.4 < baseline.sigma < 0.6


def test_an_incident_moves_the_level_by_little() -> None:
    baseline = learned(5000)
    for _ in range(50):
        baseline.learn(10**9)
    assert baseline.typical_ns < 1.3e6
    assert baseline.score(10**9) > 6


def test_slow_change_is_followed() -> None:
    baseline = learned(5000)
    for step in range(20_000):
        baseline.learn(int(1e6 * (1 + step / 10_000)))
    assert baseline.score(3_000_000) < 3


def test_spread_is_never_believed_to_be_nothing() -> None:
    baseline = LogBaseline()
    for _ in range(1000):
        baseline.learn(1_000_000)
    assert baseline.score(1_100_000) < 1
