from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracecore.window import WINDOW_NS, HopWindow, OperationWindow, merged_hop, merged_operation, window_start

_counts = st.integers(0, 10**6)
_buckets = st.dictionaries(st.integers(0, 3700), st.integers(1, 10**6), max_size=5)
_sample = st.sampled_from(["", "aa", "bb"])
operation_windows = st.builds(
    OperationWindow, st.just(0), st.just("web"), st.just("GET /"), st.just(2), st.integers(0, 8), _counts, _counts,
    _counts, _buckets, _buckets, _sample, _sample,
)  # fmt: skip
hop_windows = st.builds(
    HopWindow, st.just(0), st.just("web"), st.just("app"), st.just("GET /"), st.integers(0, 8), _counts, _counts,
    _counts, _buckets, _buckets, _sample, _sample,
)  # fmt: skip


@given(st.lists(operation_windows, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_merging_operation_windows_is_associative_and_commutative(parts: list[OperationWindow], random: Any) -> None:
    whole = merged_operation(parts)
    assert merged_operation([merged_operation(parts[:1]), merged_operation(parts[1:])]) == whole
    random.shuffle(parts)
    assert merged_operation(parts) == whole
    assert whole.spans == sum(part.spans for part in parts)


@given(st.lists(hop_windows, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_merging_hop_windows_is_associative_and_commutative(parts: list[HopWindow], random: Any) -> None:
    whole = merged_hop(parts)
    assert merged_hop([merged_hop(parts[:1]), merged_hop(parts[1:])]) == whole
    random.shuffle(parts)
    assert merged_hop(parts) == whole


@given(operation_windows, hop_windows)
def test_a_part_alone_is_the_whole(operation: OperationWindow, hop: HopWindow) -> None:
    assert merged_operation([operation]) == replace(operation, partition=-1)
    assert merged_hop([hop]) == replace(hop, partition=-1)
    assert operation.key == ("web", "GET /", 2) and hop.key == ("web", "app", "GET /")


@given(st.integers(0, 2**63))
def test_window_holds_its_time(time_ns: int) -> None:
    start = window_start(time_ns)
    assert start <= time_ns < start + WINDOW_NS and start % WINDOW_NS == 0
