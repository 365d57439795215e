"""Many traces analysed at once: what needs no repair by compiled code, the rest one by one.

Compiled code wants columns, and to call it costs as much as to analyse a few spans. A record closes as many traces as
it opens, so under load there are always enough. Until it has compiled, or where numba is not installed, all go one by
one.
"""

from collections.abc import Hashable, Sequence
from itertools import accumulate, compress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from tracecore.analysed import AnalysedSpans
from tracecore.analysis import Gathered, closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.dependency_links import links_told
from tracecore.skew import MAX_SKEW_NS
from tracecore.span import Resource, Scope, Span, StatusCode
from tracecore.span_columns import (
    END_NS,
    KIND,
    ORIGIN,
    PARENT_ID,
    SPAN_ID,
    START_NS,
    STATUS,
    Part,
    SpanColumns,
    SpansInParts,
    columns_of,
    joined,
)

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
    given = _given(gathered)
    if given is None:
        return [_alone(one, replay_id) for one in gathered]
    found = forest.forest_of(given.columns, MAX_SKEW_NS)
    first = given.columns.first.tolist()
    analysed = AnalysedSpans(given.spans, given.columns, found, given.service_names)
    parents, gaps, above, tells = (column.tolist() for column in (found.parents, found.gaps, found.above, found.tells))
    durations = (analysed.ends - analysed.starts).tolist()
    error_counts = np.diff(np.concatenate(((0,), np.cumsum(analysed.failed)))[given.columns.first]).tolist()
    resource_tables = _tables(given.columns.resources, found.local_resources, given.columns, found)
    scope_tables = _tables(given.columns.scopes, found.local_scopes, given.columns, found)
    needs_repair, origins = found.needs_repair.tolist(), found.origins.tolist()
    starts, ends = found.starts.tolist(), found.ends.tolist()
    in_order = analysed.spans
    is_packed = len(given.spans) >= MIN_SPANS_A_NAME * len(given.spans.names)
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

    spans: SpanColumns
    columns: "Columns"
    service_names: list[str]
    resources: list[Resource]
    scopes: list[Scope]


def _given(gathered: Sequence[Gathered]) -> _Given | None:
    """What compiled code reads; None if numbers or ids do not fit, as in spans that no decoder made."""
    spans = _columns([one.spans for one in gathered])
    if spans is None:
        return None
    resource_of, resources = _numbered([origin.resource for origin in spans.origins])
    scope_of, scopes = _numbered([origin.scope for origin in spans.origins])
    service_of, service_names = _numbered([resource.service for resource in resources])
    hosts: dict[str, int] = {"": -1}
    host_of = np.array([hosts.setdefault(resource.host, len(hosts)) for resource in resources], np.int64)
    table, resource_of_span = spans.table, resource_of[spans.table[ORIGIN]]
    columns = forest.Columns(
        np.array(list(accumulate((len(one.spans) for one in gathered), initial=0)), np.int64),
        table[SPAN_ID].view(np.uint64),
        table[PARENT_ID].view(np.uint64),
        # What is beyond the middle reads as negative, and is analysed alone.
        table[START_NS],
        table[END_NS],
        table[KIND],
        table[STATUS] == _ERROR,
        host_of[resource_of_span],
        service_of[resource_of_span],
        resource_of_span,
        scope_of[table[ORIGIN]],
    )
    return _Given(spans, columns, service_names, resources, scopes)


def _columns(traces: Sequence[Sequence[Span]]) -> SpanColumns | None:
    """The spans of all traces, one trace after the other."""
    plain = [span for spans in traces if not isinstance(spans, SpansInParts) for span in spans]
    made = columns_of(plain)
    if made is None or len(plain) == sum(map(len, traces)):
        return made
    parts: list[Part] = []
    low = 0
    for spans in traces:
        if isinstance(spans, SpansInParts):
            parts += spans.parts
        else:
            parts.append((made, low, low + len(spans)))
            low += len(spans)
    return joined(parts)


def _numbered(values: Sequence[T]) -> tuple[Array, list[T]]:
    """By value its number, counted in the order of appearance; and the values by number."""
    number: dict[T, int] = {}
    return np.array([number.setdefault(value, len(number)) for value in values], np.int64), list(number)


def _tables(numbers: Array, local: Array, columns: "Columns", found: "Forest") -> list[list[int]]:
    """By trace the ``numbers`` that its spans have, by their ``local`` ones, which count up as they appear."""
    count = len(columns.first) - 1
    apart = np.repeat(np.arange(count) * (len(local) + 1), np.diff(columns.first))
    highest = np.maximum.accumulate(local + apart)
    appears = np.nonzero(np.diff(highest, prepend=-1))[0]
    appearing = numbers[found.order[appears]].tolist()
    bounds = np.searchsorted(appears, columns.first).tolist()
    return [appearing[bounds[t] : bounds[t + 1]] for t in range(count)]
