"""Many traces analysed at once: what needs no repair by compiled code, the rest one by one.

Compiled code wants columns, and to call it costs as much as to analyse a few spans. A record closes as many traces as
it opens, so under load there are always enough. Until it has compiled, or where numba is not installed, all go one by
one.
"""

from array import array
from collections.abc import Hashable, Sequence
from itertools import accumulate, chain, compress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from tracecore.analysed import AnalysedSpans
from tracecore.analysis import Gathered, closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.dependency_links import links_told
from tracecore.skew import MAX_SKEW_NS
from tracecore.span import MAX_COUNT_MILLI, Resource, Scope, Span, StatusCode

try:
    from tracecore import forest, packing
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    forest = packing = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from tracecore.forest import Columns, Forest

#: Fewer spans than this are sooner analysed one by one.
MIN_SPANS = 40
#: Where fewer spans bear each name, whoever counts or judges them does so one by one, and looks at all.
MIN_SPANS_A_NAME = 4

_ERROR = int(StatusCode.ERROR)
_NO_ID = bytes(8)

T = TypeVar("T", bound=Hashable)
Array = np.ndarray[Any, Any]


def closed_traces(gathered: Sequence[Gathered], replay_id: str = "") -> list[ClosedTrace]:
    """``closed_trace`` of each, in their order. Raises what that raises.

    Spans and critical paths may be such that are made when somebody looks (``tracecore.packed``).
    """
    if not _is_warm() or sum(len(one.spans) for one in gathered) < MIN_SPANS:
        return [_alone(one, replay_id) for one in gathered]
    return _together(gathered, replay_id)


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with. Takes seconds the first time."""
    if forest is None:
        return False
    packing.warm_up()
    forest.warm_up()
    return True


def _is_warm() -> bool:
    return forest is not None and forest.is_warm() and packing.is_warm()


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
    given = _given(spans, first)
    if given is None:
        return [_alone(one, replay_id) for one in gathered]
    found = forest.forest_of(given.columns, MAX_SKEW_NS)
    analysed = AnalysedSpans(
        spans, given.columns, found, given.names, given.statuses, given.counts_milli, given.service_names,
        given.span_names,
    )  # fmt: skip
    parents, gaps, above, tells = (column.tolist() for column in (found.parents, found.gaps, found.above, found.tells))
    durations = (analysed.ends - analysed.starts).tolist()
    error_counts = np.diff(np.concatenate(((0,), np.cumsum(analysed.failed)))[given.columns.first]).tolist()
    resource_tables = _tables(given.columns.resources, found.local_resources, given.columns, found)
    scope_tables = _tables(given.columns.scopes, found.local_scopes, given.columns, found)
    needs_repair, origins = found.needs_repair.tolist(), found.origins.tolist()
    starts, ends = found.starts.tolist(), found.ends.tolist()
    in_order = analysed.spans
    is_packed = len(spans) >= MIN_SPANS_A_NAME * len(given.span_names)
    closed: list[ClosedTrace] = []
    for t, one in enumerate(gathered):
        if needs_repair[t]:
            closed.append(_alone(one, replay_id))
            continue
        low, high = first[t], first[t + 1]
        root: Span = in_order[low]
        resources = tuple(map(given.resources.__getitem__, resource_tables[t]))
        services = {resource.service for resource in resources}
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
                error_count=error_counts[t],
                duplicate_count=one.duplicate_count,
                missing_root=False,
                missing_parents=0,
                error_origin=in_order[low + origins[t]].span_id if origins[t] >= 0 else b"",
                count_milli=root.count_milli,
                services=tuple(sorted(services)),
                critical_path=analysed.path_of(t) if is_packed else analysed.made_path(t),
                links=links_told(
                    in_order[low:high],
                    compress(range(high - low), tells[low:high]),
                    parents[low:high],
                    above[low:high],
                    durations[low:high],
                    gaps[low:high],
                    services,
                ),
                warnings=(),
                resources=resources,
                scopes=tuple(map(given.scopes.__getitem__, scope_tables[t])),
                spans=analysed.spans_of(t) if is_packed else analysed.made_spans(t),
                replay_id=replay_id,
            )
        )
    return closed


class _Given(NamedTuple):
    """What there is to analyse, and what its numbers mean."""

    columns: "Columns"
    names: Array
    statuses: Array
    counts_milli: Array
    service_names: list[str]
    span_names: list[str]
    resources: list[Resource]
    scopes: list[Scope]


def _given(spans: Sequence[Span], first: Sequence[int]) -> _Given | None:
    """What compiled code reads; None if numbers or ids do not fit, as in spans that no decoder made."""
    _, span_ids, parent_ids, names, kinds, starts, ends, statuses, counts, resources, scopes, _ = zip(
        *spans, strict=True
    )
    ids, parents = b"".join(span_ids), b"".join([parent_id or _NO_ID for parent_id in parent_ids])
    if len(ids) != 8 * len(spans) or len(parents) != 8 * len(spans):
        return None
    try:
        # An array of the standard library takes a tuple's integers in a third of the time that numpy does.
        start_array, end_array = (np.frombuffer(array("Q", times), np.int64) for times in (starts, ends))
        count_array = np.frombuffer(array("q", counts), np.int64)
    except OverflowError:
        return None
    if count_array.min() < 0 or count_array.max() > MAX_COUNT_MILLI:
        return None
    resource_of, distinct_resources = _numbered_objects(resources)
    scope_of, distinct_scopes = _numbered_objects(scopes)
    service_of, service_names = _numbered([resource.service for resource in distinct_resources])
    name_of, span_names = _numbered(names)
    hosts: dict[str, int] = {"": -1}
    host_of = np.array([hosts.setdefault(resource.host, len(hosts)) for resource in distinct_resources], np.int64)
    status_array = np.frombuffer(array("q", statuses), np.int64)
    columns = forest.Columns(
        np.array(first, np.int64),
        np.frombuffer(ids, ">u8").astype(np.uint64),
        np.frombuffer(parents, ">u8").astype(np.uint64),
        # What is beyond the middle reads as negative, and is analysed alone.
        start_array,
        end_array,
        np.frombuffer(array("q", kinds), np.int64),
        status_array == _ERROR,
        host_of[resource_of],
        service_of[resource_of],
        resource_of,
        scope_of,
    )
    return _Given(
        columns, name_of, status_array, count_array, service_names, span_names, distinct_resources, distinct_scopes
    )


def _numbered(values: Sequence[T]) -> tuple[Array, list[T]]:
    """By value its number, counted in the order of appearance; and the values by number."""
    distinct = list(dict.fromkeys(values))
    number = dict(zip(distinct, range(len(distinct)), strict=True))
    return np.fromiter(map(number.__getitem__, values), np.int64, len(values)), distinct


def _numbered_objects(values: Sequence[T]) -> tuple[Array, list[T]]:
    """``_numbered`` where most values are one of few objects: hashes a resource's bytes once an object."""
    keys = list(map(id, values))
    objects = dict(zip(keys, values, strict=True))
    by_value: dict[T, int] = {}
    number = {key: by_value.setdefault(value, len(by_value)) for key, value in objects.items()}
    if len(by_value) == 1:
        return np.zeros(len(keys), np.int64), list(by_value)
    return np.fromiter(map(number.__getitem__, keys), np.int64, len(keys)), list(by_value)


def _tables(numbers: Array, local: Array, columns: "Columns", found: "Forest") -> list[list[int]]:
    """By trace the ``numbers`` that its spans have, by their ``local`` ones, which count up as they appear."""
    count = len(columns.first) - 1
    apart = np.repeat(np.arange(count) * (len(local) + 1), np.diff(columns.first))
    highest = np.maximum.accumulate(local + apart)
    appears = np.nonzero(np.diff(highest, prepend=-1))[0]
    appearing = numbers[found.order[appears]].tolist()
    bounds = np.searchsorted(appears, columns.first).tolist()
    return [appearing[bounds[t] : bounds[t + 1]] for t in range(count)]
