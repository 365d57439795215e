"""Many traces at once, compiled: what ``tree``, ``skew``, ``self_time``, ``critical_path``, ``hops``, ``error_origin``
and ``dependency_links`` find, for traces that need no repair. Columns in, columns out.

Those modules are the reference, and take what needs repair; the tests hold both equal. Compiling is numba's, which
keeps the machine code beside this file, or in ``NUMBA_CACHE_DIR``: only the first process ever waits for it.
"""

import threading
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tracecore.compiling import uncounted

_INTERNAL, _SERVER, _CLIENT, _PRODUCER, _CONSUMER = 1, 2, 3, 4, 5
#: Below this, sorting by insertion beats everything.
_SMALL = 24
#: Times beyond this (the year 2116) might overflow when they are added up; no clock means them.
_MAX_TIME_NS = 1 << 62

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Columns(NamedTuple):
    """The spans of many traces, one trace after the other; those of trace ``t`` are ``first[t]`` to ``first[t + 1]``.

    Ids are big-endian integers, a parent of 0 is none. ``hosts`` are numbers of clocks, -1 for one that is not known;
    ``services``, ``resources`` and ``scopes`` are numbers, equal for equal values.
    """

    first: Array
    span_ids: Array
    parent_ids: Array
    starts: Array
    ends: Array
    kinds: Array
    failed: Array
    hosts: Array
    services: Array
    resources: Array
    scopes: Array


class Forest(NamedTuple):
    """By trace, or by span in the order of its tree; indices of spans count from the trace's root.

    A trace with ``needs_repair`` has nothing else. ``order`` has positions in the columns that were given. ``tells`` is
    true for spans that may tell of a call, ``above`` the nearest span above that is one side of one (-1: none).
    ``local_resources`` number a trace's resources in the order of their appearance.
    The path of trace ``t`` lies from ``path_first[t]`` to ``path_first[t + 1]``.
    """

    needs_repair: Array
    origins: Array
    starts: Array
    ends: Array
    order: Array
    parents: Array
    depths: Array
    skews: Array
    self_times: Array
    path_shares: Array
    gaps: Array
    above: Array
    tells: Array
    local_resources: Array
    local_scopes: Array
    path_first: Array
    path_spans: Array
    path_starts: Array
    path_ends: Array


def forest_of(columns: Columns, max_skew_ns: int) -> Forest:
    """Analyse all traces. O(n log n)."""
    count, spans = len(columns.first) - 1, len(columns.span_ids)

    def zeros(length: int, dtype: Any = np.int64) -> Array:
        return np.zeros(length, dtype)

    forest = Forest(
        needs_repair=zeros(count, np.bool_),
        origins=zeros(count),
        starts=zeros(count),
        ends=zeros(count),
        order=zeros(spans),
        parents=zeros(spans),
        depths=zeros(spans),
        skews=zeros(spans),
        self_times=zeros(spans),
        path_shares=zeros(spans),
        gaps=zeros(spans),
        above=zeros(spans),
        tells=zeros(spans, np.bool_),
        local_resources=zeros(spans),
        local_scopes=zeros(spans),
        path_first=zeros(count + 1),
        path_spans=zeros(2 * spans),
        path_starts=zeros(2 * spans),
        path_ends=zeros(2 * spans),
    )
    _analyse(*columns, max_skew_ns, *forest)
    return forest


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled: under half a second once it was."""
    empty = np.zeros(0, np.int64)
    columns = Columns(
        np.zeros(1, np.int64), empty.astype(np.uint64), empty.astype(np.uint64), empty, empty, empty,
        empty.astype(np.bool_), empty, empty, empty, empty,
    )  # fmt: skip
    forest_of(columns, 0)
    _warm.set()


@njit(cache=True, nogil=True)
def _analyse(
    first, span_ids, parent_ids, starts_sent, ends_sent, kinds_sent, failed, hosts, services, resources, scopes,
    max_skew_ns,
    needs_repair, origins, first_starts, last_ends, order, parents, depths, skews, self_times, shares, gaps, above,
    tells, local_resources, local_scopes, path_first, path_spans, path_starts, path_ends,
):  # fmt: skip
    longest = 0
    for t in range(len(first) - 1):
        longest = max(longest, first[t + 1] - first[t])
    slots = 4
    while slots < 2 * longest:
        slots *= 2
    # A look-up from a span id to its place; a slot counts if it bears the trace's number.
    slot_trace, slot_at = np.full(slots, -1, np.int64), np.zeros(slots, np.int64)
    sorted_at, rank_of = np.zeros(longest, np.int64), np.zeros(longest, np.int64)
    parent_at, first_child = np.zeros(longest, np.int64), np.zeros(longest, np.int64)
    last_child, next_sibling = np.zeros(longest, np.int64), np.zeros(longest, np.int64)
    begins, finishes = np.zeros(longest, np.int64), np.zeros(longest, np.int64)
    kinds, below = np.zeros(longest, np.int64), np.zeros(longest + 1, np.int64)
    # A path has twice as many stretches as spans, at most.
    children, spare = np.zeros(2 * longest, np.int64), np.zeros(2 * longest, np.int64)
    todo, todo_low = np.zeros(longest + 1, np.int64), np.zeros(longest + 1, np.int64)
    todo_end = np.zeros(longest + 1, np.int64)
    resource_count = scope_count = 1
    for i in range(len(resources)):
        resource_count, scope_count = max(resource_count, resources[i] + 1), max(scope_count, scopes[i] + 1)
    resource_trace, resource_number = np.full(resource_count, -1, np.int64), np.zeros(resource_count, np.int64)
    scope_trace, scope_number = np.full(scope_count, -1, np.int64), np.zeros(scope_count, np.int64)
    path_at = 0
    for t in range(len(first) - 1):
        base, n = first[t], first[t + 1] - first[t]
        path_first[t] = path_at
        if n == 0 or not _is_sound(
            base, n, t, span_ids, parent_ids, starts_sent, ends_sent, slots, slot_trace, slot_at, parent_at
        ):
            needs_repair[t] = True
            continue
        _sort_by_start(base, n, span_ids, starts_sent, sorted_at, spare)
        # The tree, in places: children of one parent stand in the order of their starts.
        for place in range(n):
            first_child[place] = -1
        root = -1
        for k in range(n):
            place = sorted_at[k]
            parent = parent_at[place]
            next_sibling[place] = -1
            if parent < 0:
                root = place
            elif first_child[parent] < 0:
                first_child[parent] = last_child[parent] = place
            else:
                next_sibling[last_child[parent]] = place
                last_child[parent] = place
        place, depth, reached = root, 0, 0
        while True:
            order[base + reached], depths[base + reached], rank_of[place] = base + place, depth, reached
            reached += 1
            if first_child[place] >= 0:
                place, depth = first_child[place], depth + 1
                continue
            while place != root and next_sibling[place] < 0:
                place, depth = parent_at[place], depth - 1
            if place == root:
                break
            place = next_sibling[place]
        if reached < n:  # a circle of parents hangs beside the root
            needs_repair[t] = True
            continue
        one_host = hosts[base] >= 0
        for rank in range(n):
            at = order[base + rank]
            parent = parent_at[at - base]
            parents[base + rank] = rank_of[parent] if parent >= 0 else -1
            begins[rank], finishes[rank], kinds[rank] = starts_sent[at], ends_sent[at], kinds_sent[at]
            one_host = one_host and hosts[at] == hosts[base]
            first_child[rank] = last_child[rank] = next_sibling[rank] = -1
            skews[base + rank] = 0
        # The same links again, in ranks.
        for rank in range(1, n):
            parent = parents[base + rank]
            if first_child[parent] < 0:
                first_child[parent] = rank
            else:
                next_sibling[last_child[parent]] = rank
            last_child[parent] = rank
        if not one_host and not _correct_skew(
            base, n, max_skew_ns, order, parents, hosts, kinds, begins, finishes, skews
        ):
            needs_repair[t] = True
            continue
        low = high = 0
        for rank in range(n):
            if begins[rank] > 0 and (low == 0 or begins[rank] < low):
                low = begins[rank]
            high = max(high, finishes[rank])
            self_times[base + rank] = _uncovered(rank, first_child, next_sibling, begins, finishes, children, spare)
        first_starts[t], last_ends[t] = low, high if low else 0
        path_at = _critical_path(
            base, path_at, first_child, next_sibling, begins, finishes, children, spare, todo, todo_low, todo_end,
            path_spans, path_starts, path_ends, shares,
        )  # fmt: skip
        for rank in range(n):
            parent = parents[base + rank]
            gaps[base + rank] = _gap(rank, parent, kinds, begins, finishes, first_child, next_sibling)
            above[base + rank] = -1
            if parent >= 0:
                above[base + rank] = parent if _SERVER <= kinds[parent] <= _CONSUMER else above[base + parent]
            tells[base + rank] = kinds[rank] != _INTERNAL and not (
                kinds[rank] == _CLIENT and _is_answered(rank, base, order, kinds, services, first_child, next_sibling)
            )
        # Numbers of resources and scopes within the trace, by first appearance.
        used_resources = used_scopes = 0
        for rank in range(n):
            resource, scope = resources[order[base + rank]], scopes[order[base + rank]]
            if resource_trace[resource] != t:
                resource_trace[resource], resource_number[resource] = t, used_resources
                used_resources += 1
            if scope_trace[scope] != t:
                scope_trace[scope], scope_number[scope] = t, used_scopes
                used_scopes += 1
            local_resources[base + rank], local_scopes[base + rank] = resource_number[resource], scope_number[scope]
        origins[t] = _error_origin(base, n, order, parents, failed, finishes, below)
    path_first[len(first) - 1] = path_at


@uncounted
def _is_sound(base, n, t, span_ids, parent_ids, starts, ends, slots, slot_trace, slot_at, parent_at):
    """Every id once, one root, every parent there, times that can be; fills ``parent_at``."""
    mask = np.uint64(slots - 1)
    for place in range(n):
        span_id = span_ids[base + place]
        slot = _slot(span_id, mask)
        while slot_trace[slot] == t:
            if span_ids[base + slot_at[slot]] == span_id:
                return False
            slot = np.int64(np.uint64(slot + 1) & mask)
        slot_trace[slot], slot_at[slot] = t, place
        if not 0 < starts[base + place] <= ends[base + place] < _MAX_TIME_NS:
            return False
    roots = 0
    for place in range(n):
        parent_id = parent_ids[base + place]
        parent_at[place] = -1
        if parent_id == 0:
            roots += 1
            continue
        slot = _slot(parent_id, mask)
        while slot_trace[slot] == t and span_ids[base + slot_at[slot]] != parent_id:
            slot = np.int64(np.uint64(slot + 1) & mask)
        if slot_trace[slot] != t or slot_at[slot] == place:
            return False
        parent_at[place] = slot_at[slot]
    return roots == 1


@uncounted
def _slot(span_id, mask):
    # Fibonacci hashing: ids of some tracers count up.
    return np.int64(((span_id * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask)


@uncounted
def _sort_by_start(base, n, span_ids, starts, sorted_at, spare):
    """Places by start, then by id."""
    if n > _SMALL:
        for k in range(n):
            sorted_at[k] = k
        _sort_stably(sorted_at, n, span_ids, base, False, spare)
        _sort_stably(sorted_at, n, starts, base, False, spare)
        return
    for place in range(n):
        start, span_id, k = starts[base + place], span_ids[base + place], place
        while k > 0:
            rival = sorted_at[k - 1]
            if starts[base + rival] < start or (starts[base + rival] == start and span_ids[base + rival] < span_id):
                break
            sorted_at[k] = rival
            k -= 1
        sorted_at[k] = place


@uncounted
def _correct_skew(base, n, max_skew_ns, order, parents, hosts, kinds, begins, finishes, skews):
    """False if a shift is above the limit: its span gets a warning."""
    for rank in range(1, n):
        parent = parents[base + rank]
        host = hosts[order[base + rank]]
        if host >= 0 and host == hosts[order[base + parent]]:
            shift = skews[base + parent]
        else:
            shift = 0
            start, end, parent_start, parent_end = begins[rank], finishes[rank], begins[parent], finishes[parent]
            if start != 0 and parent_start != 0:
                spare = (parent_end - parent_start) - (end - start)
                if kinds[rank] == _CONSUMER or kinds[parent] == _PRODUCER or spare < 0:
                    shift = max(parent_start - start, 0)
                elif not (parent_start <= start and end <= parent_end):
                    shift = parent_start + spare // 2 - start
            if abs(shift) > max_skew_ns:
                return False
        begins[rank] += shift
        finishes[rank] += shift
        skews[base + rank] = shift
    return True


@uncounted
def _sorted_children(rank, descending, first_child, next_sibling, by, children, spare):
    """Children of a span into ``children``, by ``by``; equal ones in their order. Returns how many."""
    count, child = 0, first_child[rank]
    while child >= 0:
        children[count] = child
        count += 1
        child = next_sibling[child]
    sign = -1 if descending else 1
    if count > _SMALL:
        _sort_stably(children, count, by, 0, descending, spare)
        return count
    for place in range(1, count):
        child, k = children[place], place
        while k > 0 and sign * by[children[k - 1]] > sign * by[child]:
            children[k] = children[k - 1]
            k -= 1
        children[k] = child
    return count


@uncounted
def _uncovered(rank, first_child, next_sibling, begins, finishes, children, spare):
    start, end = begins[rank], finishes[rank]
    if first_child[rank] < 0:
        return end - start
    count = _sorted_children(rank, False, first_child, next_sibling, begins, children, spare)
    uncovered, cursor = 0, start
    for k in range(count):
        child = children[k]
        if begins[child] >= end:
            break
        if begins[child] > cursor:
            uncovered += begins[child] - cursor
        cursor = max(cursor, finishes[child])
    return uncovered + max(end - cursor, 0)


@uncounted
def _critical_path(
    base, path_at, first_child, next_sibling, begins, finishes, children, spare, todo, todo_low, todo_end,
    path_spans, path_starts, path_ends, shares,
):  # fmt: skip
    began, waiting = path_at, 0
    if finishes[0] > begins[0]:
        todo[0], todo_low[0], todo_end[0], waiting = 0, begins[0], finishes[0], 1
    while waiting:
        waiting -= 1
        rank, low, cursor = todo[waiting], todo_low[waiting], todo_end[waiting]
        count = _sorted_children(rank, True, first_child, next_sibling, finishes, children, spare)
        for k in range(count):
            child = children[k]
            if finishes[child] <= low:
                break
            start, end = max(begins[child], low), min(finishes[child], cursor)
            if start >= end:
                continue
            if end < cursor:
                path_spans[path_at], path_starts[path_at], path_ends[path_at] = rank, end, cursor
                path_at += 1
            todo[waiting], todo_low[waiting], todo_end[waiting] = child, start, end
            waiting += 1
            cursor = start
        if cursor > low:
            path_spans[path_at], path_starts[path_at], path_ends[path_at] = rank, low, cursor
            path_at += 1
    _sort_path(began, path_at, path_spans, path_starts, path_ends, children, spare)
    for k in range(began, path_at):
        shares[base + path_spans[k]] += path_ends[k] - path_starts[k]
    return path_at


@uncounted
def _sort_path(began, ended, path_spans, path_starts, path_ends, places, spare):
    """By start; no two stretches start together."""
    if ended - began > _SMALL:
        count = ended - began
        for k in range(count):
            places[k] = k
        _sort_stably(places, count, path_starts, began, False, spare)
        _rearrange(path_spans, began, count, places, spare)
        _rearrange(path_starts, began, count, places, spare)
        _rearrange(path_ends, began, count, places, spare)
        return
    for place in range(began + 1, ended):
        rank, start, end, k = path_spans[place], path_starts[place], path_ends[place], place
        while k > began and path_starts[k - 1] > start:
            path_spans[k], path_starts[k], path_ends[k] = path_spans[k - 1], path_starts[k - 1], path_ends[k - 1]
            k -= 1
        path_spans[k], path_starts[k], path_ends[k] = rank, start, end


@uncounted
def _sort_stably(places, count, keys, base, descending, spare):
    """Merge sort of the first ``count`` of ``places`` by their keys, beyond ``base``; numba's own asks for memory."""
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle, high = min(low + width, count), min(low + 2 * width, count)
            left, right = low, middle
            for k in range(low, high):
                is_left = right == high
                if not is_left and left < middle:
                    one, other = keys[base + places[left]], keys[base + places[right]]
                    is_left = one >= other if descending else one <= other
                if is_left:
                    spare[k] = places[left]
                    left += 1
                else:
                    spare[k] = places[right]
                    right += 1
        for k in range(count):
            places[k] = spare[k]
        width *= 2


@uncounted
def _rearrange(column, base, count, places, spare):
    for k in range(count):
        spare[k] = column[base + places[k]]
    for k in range(count):
        column[base + k] = spare[k]


@uncounted
def _gap(rank, parent, kinds, begins, finishes, first_child, next_sibling):
    if kinds[rank] != _SERVER or parent < 0 or kinds[parent] != _CLIENT:
        return -1
    servers, sibling = 0, first_child[parent]
    while sibling >= 0:
        servers += kinds[sibling] == _SERVER
        sibling = next_sibling[sibling]
    gap = (finishes[parent] - begins[parent]) - (finishes[rank] - begins[rank])
    return gap if servers == 1 and gap >= 0 else -1


@uncounted
def _is_answered(rank, base, order, kinds, services, first_child, next_sibling):
    service = services[order[base + rank]]
    child = first_child[rank]
    while child >= 0:
        if _SERVER <= kinds[child] <= _CONSUMER or services[order[base + child]] != service or first_child[child] >= 0:
            return True
        child = next_sibling[child]
    return False


@uncounted
def _error_origin(base, n, order, parents, failed, finishes, below):
    any_failed = False
    for rank in range(n):
        any_failed = any_failed or failed[order[base + rank]]
    if not any_failed:
        return -1
    for rank in range(n + 1):
        below[rank] = -1
    for rank in range(n - 1, -1, -1):
        found = rank if failed[order[base + rank]] else below[rank]
        if found < 0:
            continue
        parent = parents[base + rank] if parents[base + rank] >= 0 else n
        if below[parent] < 0 or finishes[found] <= finishes[below[parent]]:
            below[parent] = found
    origin = below[n]
    while origin >= 0 and below[origin] >= 0:
        origin = below[origin]
    return origin
