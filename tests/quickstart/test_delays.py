"""Quantiles of delays are observed values, by rank."""

import pytest

from quickstart.delays import KEPT, Delays


@pytest.mark.parametrize(
    ("observed", "q", "expected"),
    [([7], 0.5, 7), ([7], 0.99, 7), ([3, 1, 2], 0.5, 2), ([1, 2, 3, 4], 0.5, 2), (range(1, 101), 0.99, 99)],
)
def test_a_quantile_is_the_smallest_value_that_enough_others_do_not_exceed(
    observed: list[int], q: float, expected: int
) -> None:
    delays = Delays()
    for value in observed:
        delays.observe(value)
    assert delays.quantile_ns(q) == expected


def test_only_the_newest_count() -> None:
    delays = Delays()
    for value in range(KEPT + 10):
        delays.observe(value)
    assert len(delays) == KEPT
    assert delays.quantile_ns(0.001) == 10
