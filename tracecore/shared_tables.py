"""Tables that traces have of their spans' values, numbered, compiled: most traces share one of a few.

Compiling is numba's, as in ``forest``.
"""

import threading
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numba import njit

_warm = threading.Event()

T = TypeVar("T")
Array = np.ndarray[Any, Any]


def shared_tables(first: Array, numbers: Array, local: Array, values: Sequence[T]) -> tuple[Array, list[tuple[T, ...]]]:
    """By trace the number of its table; and the tables, of those ``values`` of which its spans have the ``numbers``.

    Spans of trace ``t`` are ``first[t]`` to ``first[t + 1]``; within a trace they have the ``local`` numbers, which
    count up as values appear. O(n).
    """
    count = len(first) - 1
    table_of, table_first, members = np.zeros(count, np.int64), np.zeros(count + 1, np.int64), np.zeros_like(numbers)
    distinct = _number(first, numbers, local, table_of, table_first, members)
    bounds = table_first[: distinct + 1].tolist()
    of_tables = list(map(values.__getitem__, members[: bounds[-1]].tolist()))
    return table_of, [tuple(of_tables[bounds[n] : bounds[n + 1]]) for n in range(distinct)]


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none = np.zeros(0, np.int64)
    shared_tables(np.zeros(1, np.int64), none, none, ())
    _warm.set()


@njit(cache=True, nogil=True)
def _number(first, numbers, local, table_of, table_first, members):
    """Members of table ``n`` lie from ``table_first[n]`` to ``table_first[n + 1]``. Returns how many there are."""
    slots = 4
    while slots < 2 * len(table_of):
        slots *= 2
    mask = np.uint64(slots - 1)
    slot_of, distinct = np.full(slots, -1, np.int64), 0
    for t in range(len(table_of)):
        began, size, hashed = table_first[distinct], 0, np.uint64(0)
        for i in range(first[t], first[t + 1]):
            if local[i] == size:
                members[began + size] = numbers[i]
                hashed = (hashed ^ np.uint64(numbers[i] + 1)) * np.uint64(0x9E3779B97F4A7C15)
                size += 1
        slot = np.int64((hashed >> np.uint64(32)) & mask)
        while slot_of[slot] >= 0 and not _is_same(members, table_first, slot_of[slot], began, size):
            slot = np.int64(np.uint64(slot + 1) & mask)
        if slot_of[slot] < 0:
            slot_of[slot] = distinct
            distinct += 1
            table_first[distinct] = began + size
        table_of[t] = slot_of[slot]
    return distinct


@njit(cache=True, nogil=True)
def _is_same(members, table_first, table, began, size):
    start = table_first[table]
    if table_first[table + 1] - start != size:
        return False
    return np.array_equal(members[start : start + size], members[began : began + size])
