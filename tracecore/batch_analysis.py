"""Many traces analysed at once: what needs no repair by compiled code, the rest one by one.

Compiled code wants columns, and to call it costs as much as to analyse a few spans. A record closes as many traces as
it opens, so under load there are always enough. Until it has compiled, or where numba is not installed, all go one by
one.
"""

from array import array
from collections.abc import Hashable, Sequence
from itertools import accumulate, chain, compress, repeat
from typing import Any, TypeVar

import numpy as np

from tracecore.analysis import Gathered, closed_trace, new_segment, traced_spans
from tracecore.closed_trace import ClosedTrace
from tracecore.dependency_links import links_told
from tracecore.skew import MAX_SKEW_NS
from tracecore.span import Resource, Scope, Span, StatusCode

try:
    from tracecore import forest
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    forest = None  # type: ignore[assignment]

#: Fewer spans than this are sooner analysed one by one.
MIN_SPANS = 40

_ERROR = int(StatusCode.ERROR)
_NO_ID = bytes(8)

T = TypeVar("T")
Array = np.ndarray[Any, Any]


def closed_traces(gathered: Sequence[Gathered], replay_id: str = "") -> list[ClosedTrace]:
    """``closed_trace`` of each, in their order. Raises what that raises."""
    if forest is None or not forest.is_warm() or sum(len(one.spans) for one in gathered) < MIN_SPANS:
        return [_alone(one, replay_id) for one in gathered]
    return _together(gathered, replay_id)


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with. Takes seconds the first time."""
    if forest is None:
        return False
    forest.warm_up()
    return True


def _alone(one: Gathered, replay_id: str) -> ClosedTrace:
    return closed_trace(
        one.trace_id,
        one.spans,
        revision=one.revision,
        reason=one.reason,
        first_arrival_ns=one.first_arrival_ns,
        last_arrival_ns=one.last_arrival_ns,
        duplicate_count=one.duplicate_count,
        replay_id=replay_id,
    )


def _together(gathered: Sequence[Gathered], replay_id: str) -> list[ClosedTrace]:
    spans = list(chain.from_iterable(one.spans for one in gathered))
    first = list(accumulate((len(one.spans) for one in gathered), initial=0))
    columns = _columns(spans, first)
    if columns is None:
        return [_alone(one, replay_id) for one in gathered]
    found = forest.forest_of(columns, MAX_SKEW_NS)
    order = found.order.tolist()
    in_order = list(map(spans.__getitem__, order))
    fields = list(zip(*in_order, strict=True))
    _, span_ids, _, _, _, _, _, statuses, _, resources, scopes, _ = fields
    base = np.repeat(columns.first[:-1], np.diff(columns.first))
    # Number -1, the last of these, is the parent of a root.
    tree_parents = np.where(found.parents < 0, -1, found.parents + base).tolist()
    parents, gaps, above, tells = (column.tolist() for column in (found.parents, found.gaps, found.above, found.tells))
    local_resources, local_scopes = found.local_resources.tolist(), found.local_scopes.tolist()
    traced = list(
        traced_spans(
            fields,
            span_ids=span_ids,
            tree_parent_ids=map((*span_ids, b"").__getitem__, tree_parents),
            depths=found.depths.tolist(),
            skews=found.skews.tolist(),
            self_times=found.self_times.tolist(),
            path_shares=found.path_shares.tolist(),
            gaps=gaps,
            warnings=repeat(()),
            resource_of=local_resources,
            scope_of=local_scopes,
        )
    )
    durations = (columns.ends - columns.starts)[found.order].tolist()
    path_first = found.path_first.tolist()
    path_spans = found.path_spans[: path_first[-1]] + np.repeat(columns.first[:-1], np.diff(found.path_first))
    path = list(
        map(
            new_segment,
            zip(
                map(span_ids.__getitem__, path_spans.tolist()),
                found.path_starts[: path_first[-1]].tolist(),
                found.path_ends[: path_first[-1]].tolist(),
                strict=True,
            ),
        )
    )
    needs_repair, origins = found.needs_repair.tolist(), found.origins.tolist()
    starts, ends = found.starts.tolist(), found.ends.tolist()
    closed: list[ClosedTrace] = []
    for t, one in enumerate(gathered):
        if needs_repair[t]:
            closed.append(_alone(one, replay_id))
            continue
        low, high = first[t], first[t + 1]
        root: Span = in_order[low]
        own_resources: tuple[Resource, ...] = _by_number(local_resources[low:high], resources[low:high])
        own_scopes: tuple[Scope, ...] = _by_number(local_scopes[low:high], scopes[low:high])
        closed.append(
            ClosedTrace(
                trace_id=one.trace_id,
                revision=one.revision,
                reason=one.reason,
                root_span_id=root.span_id,
                root_service=root.service,
                root_name=root.name,
                start_ns=starts[t],
                end_ns=ends[t],
                first_arrival_ns=one.first_arrival_ns,
                last_arrival_ns=one.last_arrival_ns,
                span_count=high - low,
                error_count=statuses[low:high].count(_ERROR),
                duplicate_count=one.duplicate_count,
                missing_root=False,
                missing_parents=0,
                error_origin=span_ids[low + origins[t]] if origins[t] >= 0 else b"",
                count_milli=root.count_milli,
                services=tuple(sorted({resource.service for resource in own_resources})),
                critical_path=tuple(path[path_first[t] : path_first[t + 1]]),
                links=links_told(
                    in_order[low:high],
                    compress(range(high - low), tells[low:high]),
                    parents[low:high],
                    above[low:high],
                    durations[low:high],
                    gaps[low:high],
                ),
                warnings=(),
                resources=own_resources,
                scopes=own_scopes,
                spans=tuple(traced[low:high]),
                replay_id=replay_id,
            )
        )
    return closed


def _columns(spans: Sequence[Span], first: Sequence[int]) -> "forest.Columns | None":
    """What compiled code reads; None if numbers or ids do not fit, as in spans that no decoder made."""
    _, span_ids, parent_ids, _, kinds, starts, ends, statuses, _, resources, scopes, _ = zip(*spans, strict=True)
    ids, parents = b"".join(span_ids), b"".join([parent_id or _NO_ID for parent_id in parent_ids])
    if len(ids) != 8 * len(spans) or len(parents) != 8 * len(spans):
        return None
    try:
        # An array of the standard library takes a tuple's integers in a third of the time that numpy does.
        start_array, end_array = (np.frombuffer(array("Q", times), np.int64) for times in (starts, ends))
    except OverflowError:
        return None
    resource_at, distinct_resources = _distinct(resources)
    scope_at, distinct_scopes = _distinct(scopes)
    return forest.Columns(
        np.array(first, np.int64),
        np.frombuffer(ids, ">u8").astype(np.uint64),
        np.frombuffer(parents, ">u8").astype(np.uint64),
        # What is beyond the middle reads as negative, and is analysed alone.
        start_array,
        end_array,
        np.frombuffer(array("q", kinds), np.int64),
        np.frombuffer(array("q", statuses), np.int64) == _ERROR,
        _numbers([resource.host or None for resource in distinct_resources])[resource_at],
        _numbers([resource.service for resource in distinct_resources])[resource_at],
        _numbers(distinct_resources)[resource_at],
        _numbers(distinct_scopes)[scope_at],
    )


def _distinct(values: Sequence[Any]) -> tuple[Array, list[Any]]:
    """Each value's place among the distinct objects, and those."""
    keys = list(map(id, values))
    objects = dict(zip(keys, values, strict=True))
    if len(objects) == 1:
        return np.zeros(len(keys), np.int64), [values[0]]
    place = dict(zip(objects, range(len(objects)), strict=True))
    return np.frombuffer(array("q", list(map(place.__getitem__, keys))), np.int64), list(objects.values())


def _numbers(values: Sequence[Hashable | None]) -> Array:
    """A number by value, -1 for None."""
    known: dict[Hashable, int] = {}
    return np.array([-1 if value is None else known.setdefault(value, len(known)) for value in values], np.int64)


def _by_number(numbers: Sequence[int], values: Sequence[T]) -> tuple[T, ...]:
    """The values that bear numbers, by number: those count up in the order of appearance."""
    return tuple(dict(zip(numbers, values, strict=True)).values())
