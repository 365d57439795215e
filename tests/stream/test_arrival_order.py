"""Partitions of a replay, read as one."""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from stream.arrival_order import Held, next_in_order


@dataclass
class Partition:
    held: deque[Held] = field(default_factory=deque)
    is_over: bool = False

    @property
    def first_held(self) -> Held | None:
        return self.held[0] if self.held else None


def partition(*arrivals: int, is_over: bool = False) -> Partition:
    return Partition(deque((arrival, f"record of {arrival}") for arrival in arrivals), is_over)


def taken(partitions: list[Partition]) -> list[int]:
    arrivals = []
    while (found := next_in_order(partitions)) is not None:
        arrivals.append(found.held.popleft()[0])
    return arrivals


def test_records_are_taken_by_arrival_until_a_partition_has_none() -> None:
    assert taken([partition(1, 4, 5), partition(2, 3)]) == [1, 2, 3]


def test_nothing_is_taken_while_a_partition_was_not_heard_of() -> None:
    assert taken([partition(1), partition()]) == []


def test_a_partition_where_the_replay_has_ended_is_not_waited_for() -> None:
    assert taken([partition(1, 3), partition(2, is_over=True), partition(is_over=True)]) == [1, 2, 3]


@given(st.lists(st.lists(st.integers(0, 50)).map(sorted), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_which_partition_is_read_first(records: list[list[int]], randomness) -> None:  # type: ignore[no-untyped-def]
    partitions = [Partition() for _ in records]
    waiting = [deque(enumerate(arrivals)) for arrivals in records]
    order: list[tuple[int, int]] = []

    def take() -> None:
        while (found := next_in_order(partitions)) is not None:
            order.append(found.held.popleft()[1])

    while any(waiting):
        at = randomness.choice([number for number, queue in enumerate(waiting) if queue])
        index, arrival = waiting[at].popleft()
        partitions[at].held.append((arrival, (at, index)))
        take()
    for each in partitions:
        each.is_over = True
    take()
    assert order == sorted(order, key=lambda place: (records[place[0]][place[1]], place))
