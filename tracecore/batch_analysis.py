"""Many traces analysed at once: what needs no repair by compiled code, the rest one by one.

Compiled code wants columns, and to call it costs as much as to analyse a few spans. A record closes as many traces as
it opens, so under load there are always enough. Until it has compiled, or where numba is not installed, all go one by
one.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracecore.analysed import AnalysedSpans, PackedPath, PackedSpans
from tracecore.analysis import Gathered, closed_trace
from tracecore.closed_trace import ClosedTrace, CloseReason
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
    SpanColumns,
    SpansInParts,
    columns_of,
    joined,
    numbered,
)

try:
    from tracecore import forest, link_columns, named_peers, packing, shared_tables
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    forest = link_columns = named_peers = packing = shared_tables = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from tracecore.forest import Columns

#: Fewer spans than this are sooner analysed one by one.
MIN_SPANS = 40

_ERROR = int(StatusCode.ERROR)

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
    for module in (packing, shared_tables, named_peers, link_columns, forest):
        module.warm_up()
    return True


def _is_warm() -> bool:
    return forest is not None and all(
        module.is_warm() for module in (forest, link_columns, named_peers, shared_tables, packing)
    )


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
    trace_ids, spans_of, revisions, reasons, first_arrivals, last_arrivals, duplicate_counts = zip(
        *gathered, strict=True
    )
    given = _given(spans_of)
    told = _told(trace_ids, reasons, revisions, first_arrivals, last_arrivals, duplicate_counts)
    if given is None or told is None:
        return [_alone(one, replay_id) for one in gathered]
    found = forest.forest_of(given.columns, MAX_SKEW_NS)
    analysed = AnalysedSpans(given.spans, given.columns, found, given.service_names)
    # First of all: it may find more that needs repair.
    links = link_columns.links_of(analysed)
    first, numbers = analysed.first, range(len(gathered))
    # A trace without spans needs repair, and has no root: who repairs it says so.
    roots = np.minimum(first[:-1], len(given.spans) - 1)
    error_counts = np.diff(np.concatenate(((0,), np.cumsum(analysed.failed)))[first])
    counts_milli = analysed.counts_milli[roots]
    resource_of, resources = shared_tables.shared_tables(
        first, analysed.resources, found.local_resources, given.resources
    )
    scope_of, scopes = shared_tables.shared_tables(first, analysed.scopes, found.local_scopes, given.scopes)
    services = [tuple(sorted({resource.service for resource in table})) for table in resources]
    values = packing.TraceValues(
        analysed.needs_repair, *told, found.starts, found.ends, error_counts, found.origins, counts_milli,
        resource_of, scope_of,
    )  # fmt: skip
    shared = packing.Shared(
        *map(packing.texts, (links.names, given.spans.names, link_columns.TYPES, services, resources, scopes))
    )
    heads = analysed.heads(values, links.values, shared)
    of_resources = resource_of.tolist()
    columns: dict[str, Iterable[Any]] = {
        "trace_id": trace_ids,
        "revision": revisions,
        "reason": reasons,
        "root_span_id": analysed.ids_of(roots),
        "root_service": map(given.service_names.__getitem__, analysed.services[roots].tolist()),
        "root_name": map(given.spans.names.__getitem__, analysed.names[roots].tolist()),
        "start_ns": found.starts.tolist(),
        "end_ns": found.ends.tolist(),
        "first_arrival_ns": first_arrivals,
        "last_arrival_ns": last_arrivals,
        "span_count": np.diff(first).tolist(),
        "error_count": error_counts.tolist(),
        "duplicate_count": duplicate_counts,
        "missing_root": repeat(False),
        "missing_parents": repeat(0),
        "error_origin": analysed.ids_of(np.where(found.origins >= 0, roots + found.origins, -1)),
        "count_milli": counts_milli.tolist(),
        "services": map(services.__getitem__, of_resources),
        "critical_path": map(PackedPath, repeat(analysed), numbers),
        "links": map(link_columns.PackedLinks, repeat(links), numbers),
        "warnings": repeat(()),
        "resources": map(resources.__getitem__, of_resources),
        "scopes": map(scopes.__getitem__, scope_of.tolist()),
        "spans": map(PackedSpans, repeat(analysed), numbers),
        "sampled_by": repeat(""),
        "replay_id": repeat(replay_id),
    }
    closed = list(map(ClosedTrace, *columns.values()))
    for trace, head in zip(closed, heads, strict=True):
        trace.head = head  # type: ignore[misc]  # mypy knows no slots that a dataclass inherits
    for t in np.nonzero(analysed.needs_repair)[0].tolist():
        closed[t] = _alone(gathered[t], replay_id)
    return closed


def _told(
    trace_ids: Sequence[bytes], reasons: Sequence[CloseReason], *integers: Sequence[int]
) -> tuple[Array, Array, Array, Array, Array, Array] | None:
    """What assemblers know of traces, as ``packing.TraceValues`` has it: ids, revisions, reasons, arrivals, duplicates.

    None if ids or numbers are such as no assembler tells.
    """
    ids = b"".join(trace_ids)
    if len(ids) != packing.TRACE_ID_BYTES * len(trace_ids):
        return None
    try:
        revisions, first_arrivals, last_arrivals, duplicate_counts = map(_integers, integers)
    except OverflowError:
        return None
    reason_numbers = _integers(map(packing.REASON_NUMBERS.__getitem__, reasons))
    return np.frombuffer(ids, np.uint8), revisions, reason_numbers, first_arrivals, last_arrivals, duplicate_counts


class _Given(NamedTuple):
    """What there is to analyse, and what its numbers mean."""

    spans: SpanColumns
    columns: "Columns"
    service_names: list[str]
    resources: list[Resource]
    scopes: list[Scope]


def _given(traces: Sequence[Sequence[Span]]) -> _Given | None:
    """What compiled code reads; None if numbers or ids do not fit, as in spans that no decoder made."""
    spans = _columns(traces)
    if spans is None:
        return None
    resource_of, resources = numbered([origin.resource for origin in spans.origins])
    scope_of, scopes = numbered([origin.scope for origin in spans.origins])
    service_of, service_names = numbered([resource.service for resource in resources])
    hosts: dict[str, int] = {"": -1}
    host_of = np.array([hosts.setdefault(resource.host, len(hosts)) for resource in resources], np.int64)
    table, resource_of_span = spans.table, resource_of[spans.table[ORIGIN]]
    columns = forest.Columns(
        _integers(accumulate(map(len, traces), initial=0)),
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
    parts: list[Any] = []
    low = 0
    for spans in traces:
        if isinstance(spans, SpansInParts):
            parts += spans.parts
        else:
            parts += (made, low, low + len(spans))
            low += len(spans)
    return joined(parts)


def _integers(values: Iterable[int]) -> Array:
    # An array of the standard library takes integers in a third of the time that numpy does.
    return np.frombuffer(array("q", values), np.int64)
