import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracecore.buckets import Buckets, bounds_of, bucket_of, merged, quantile

values = st.integers(0, 2**64)
histograms = st.dictionaries(st.integers(0, 3700), st.integers(0, 10**9), max_size=20)


def observed(numbers: list[int]) -> Buckets:
    return merged({bucket_of(number): 1} for number in numbers)


@given(values)
def test_bucket_holds_its_value_and_its_middle_is_within_one_percent(value: int) -> None:
    low, high = bounds_of(bucket_of(value))
    assert low <= value < high
    assert abs((low + high - 1) / 2 - value) <= value / 100


@given(st.integers(0, 3700))
def test_buckets_touch_in_the_order_of_their_index(bucket: int) -> None:
    low, high = bounds_of(bucket)
    assert low < high == bounds_of(bucket + 1)[0]
    assert bucket_of(low) == bucket_of(high - 1) == bucket


def test_small_values_are_exact_and_negative_ones_count_as_zero() -> None:
    assert [bounds_of(bucket_of(value)) for value in (0, 1, 127)] == [(0, 1), (1, 2), (127, 128)]
    assert bucket_of(-5) == 0


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=60), st.integers(1, 5), st.floats(0.001, 1))
def test_quantile_is_within_one_percent_after_any_merge(numbers: list[int], parts: int, q: float) -> None:
    histogram = merged(observed(numbers[part::parts]) for part in range(parts))
    exact = sorted(numbers)[max(math.ceil(q * len(numbers) - 1e-9) - 1, 0)]
    assert abs(quantile(histogram, q) - exact) <= exact / 100


@given(st.lists(histograms, max_size=4), st.randoms(use_true_random=False))
def test_merging_is_associative_and_commutative(parts: list[Buckets], random: Any) -> None:
    whole = merged(parts)
    assert merged([merged(parts[:2]), merged(parts[2:])]) == whole
    random.shuffle(parts)
    assert merged(parts) == whole
    assert sum(whole.values()) == sum(sum(part.values()) for part in parts)


def test_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile({}, 0.5))
    assert math.isnan(quantile({5: 0}, 0.5))


def test_quantile_skips_buckets_that_count_nothing() -> None:
    assert quantile({1: 0, 100: 10}, 0.0) == 100
