"""Many traces analysed at once: what needs no repair by compiled code, the rest one by one.

Compiled code wants columns, and to call it costs as much as to analyse a few spans. A record closes as many traces as
it opens, so under load there are always enough.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from tracecore.analysed import AnalysedSpans, PackedPath, PackedSpans
from tracecore.analysis import Gathered, closed_trace
from tracecore.closed_trace import CLOSE_REASONS, ClosedTrace
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
    TRACE_HIGH,
    TRACE_LOW,
    SpanColumns,
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


class GatheredColumns(NamedTuple):
    """``Gathered`` of many traces: those of trace ``t`` are spans ``first[t]`` to ``first[t + 1]``, at least one.

    The rest has a value a trace; reasons are numbers of ``CLOSE_REASONS``.
    """

    spans: SpanColumns
    first: Array
    revisions: Array
    reasons: Array
    first_arrivals_ns: Array
    last_arrivals_ns: Array
    duplicate_counts: Array

    def trace_ids(self) -> list[bytes]:
        """The id of each."""
        ids: list[bytes] = self.packed_ids().view("V16")[:, 0].tolist()
        return ids

    def packed_ids(self) -> Array:
        """The halves of each id, the first byte the highest."""
        return self.spans.table[TRACE_HIGH : TRACE_LOW + 1, self.first[:-1]].T.astype(">i8", order="C")

    def spans_of(self, trace: int) -> list[Span]:
        """The spans of a trace, made."""
        return self.spans[int(self.first[trace]) : int(self.first[trace + 1])]

    def one(self, trace: int) -> Gathered:
        """A trace as those that are analysed one by one."""
        spans = self.spans_of(trace)
        return Gathered(
            spans[0].trace_id,
            spans,
            int(self.revisions[trace]),
            CLOSE_REASONS[self.reasons[trace]],
            int(self.first_arrivals_ns[trace]),
            int(self.last_arrivals_ns[trace]),
            int(self.duplicate_counts[trace]),
        )


def analysed_alone(one: Gathered, replay_id: str = "") -> ClosedTrace:
    """``closed_trace`` of what was gathered."""
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


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with. Takes seconds the first time."""
    if forest is None:
        return False
    for module in (packing, shared_tables, named_peers, link_columns, forest):
        module.warm_up()
    return True


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return forest is not None and all(
        module.is_warm() for module in (forest, link_columns, named_peers, shared_tables, packing)
    )


class ClosedTraces(Sequence[ClosedTrace]):
    """Traces analysed together. One is made when somebody looks at it: what most need of it stands in columns.

    ``analysed`` has their spans. Of a trace that ``needs_repair`` it says nothing: to look at that trace analyses it.
    """

    def __init__(self, gathered: GatheredColumns, replay_id: str, tail: bytes = b"") -> None:
        """``tail`` is what ``records`` end with: ``wire.tail_of`` those that are kept by rule."""
        self._gathered = gathered
        self._replay_id = replay_id
        self._tail = tail
        self._given = given = _given(gathered)
        self._found = forest.forest_of(given.columns, MAX_SKEW_NS)
        self.analysed = AnalysedSpans(given.spans, given.columns, self._found, given.service_names)
        # First of all: it may find more that needs repair.
        self._links = link_columns.links_of(self.analysed)
        self.needs_repair = self.analysed.needs_repair
        self._repaired: dict[int, ClosedTrace] = {}

    def __len__(self) -> int:
        return len(self._gathered.revisions)

    @overload
    def __getitem__(self, index: int) -> ClosedTrace: ...
    @overload
    def __getitem__(self, index: slice) -> list[ClosedTrace]: ...
    def __getitem__(self, index: int | slice) -> ClosedTrace | list[ClosedTrace]:
        if isinstance(index, slice):
            return [self[trace] for trace in range(*index.indices(len(self)))]
        if not self.needs_repair[index]:
            return self._made[index]
        if index not in self._repaired:
            self._repaired[index] = analysed_alone(self._gathered.one(index), self._replay_id)
        return self._repaired[index]

    @property
    def revisions(self) -> Array:
        """The revision of each."""
        return self._gathered.revisions

    @property
    def last_arrivals_ns(self) -> Array:
        """When the last span of each came."""
        return self._gathered.last_arrivals_ns

    @cached_property
    def packed_ids(self) -> Array:
        """The id of each: its halves, the first byte the highest."""
        return self._gathered.packed_ids()

    @cached_property
    def error_counts(self) -> Array:
        """How many spans of each failed."""
        counts: Array = np.diff(np.concatenate(((0,), np.cumsum(self.analysed.failed)))[self.analysed.first])
        return counts

    @property
    def records(self) -> Array:
        """Each as a record, with the tail that was given, one after another: see ``bounds``."""
        return self._packed.records

    @property
    def bounds(self) -> Array:
        """Where the record of each begins, and where the last ends; one that needs repair has no bytes."""
        return self._packed.bounds

    @property
    def resources(self) -> Sequence[Resource]:
        """Every resource of theirs, once."""
        return self._given.resources

    @cached_property
    def _packed(self) -> "packing.PackedTraces":
        found, analysed, gathered, given = self._found, self.analysed, self._gathered, self._given
        resource_of, resources = self._resources
        scope_of, scopes = self._scopes
        values = packing.TraceValues(
            self.needs_repair, self.packed_ids.view(np.uint8).reshape(-1), gathered.revisions, gathered.reasons,
            gathered.first_arrivals_ns, gathered.last_arrivals_ns, gathered.duplicate_counts, found.starts, found.ends,
            self.error_counts, found.origins, analysed.counts_milli[self._roots], resource_of, scope_of,
        )  # fmt: skip
        shared = packing.Shared(
            *map(
                packing.texts,
                (self._links.names, given.spans.names, link_columns.TYPES, self._services, resources, scopes),
            )
        )
        return analysed.packed(values, self._links.values, shared, self._tail)

    def resources_of(self) -> Iterable[tuple[Resource, ...]]:
        """The table of resources of each: many share one."""
        of, tables = self._resources
        return (
            tables[number] if not repair else self[trace].resources
            for trace, (number, repair) in enumerate(zip(of.tolist(), self.needs_repair.tolist(), strict=True))
        )

    @cached_property
    def _roots(self) -> Array:
        return self.analysed.first[:-1]

    @cached_property
    def _resources(self) -> tuple[Array, list[tuple[Resource, ...]]]:
        analysed = self.analysed
        return shared_tables.shared_tables(
            analysed.first, analysed.resources, self._found.local_resources, self._given.resources
        )

    @cached_property
    def _scopes(self) -> tuple[Array, list[tuple[Scope, ...]]]:
        analysed = self.analysed
        return shared_tables.shared_tables(
            analysed.first, analysed.scopes, self._found.local_scopes, self._given.scopes
        )

    @cached_property
    def _services(self) -> list[tuple[str, ...]]:
        """By table of resources the names of their services."""
        return [tuple(sorted({resource.service for resource in table})) for table in self._resources[1]]

    @cached_property
    def _made(self) -> list[ClosedTrace]:
        """All, made together; those that need repair have no meaning."""
        found, analysed, gathered, given, roots = self._found, self.analysed, self._gathered, self._given, self._roots
        resource_of, resources = self._resources
        scope_of, scopes = self._scopes
        numbers, of_resources = range(len(self)), resource_of.tolist()
        columns: dict[str, Iterable[Any]] = {
            "trace_id": gathered.trace_ids(),
            "revision": gathered.revisions.tolist(),
            "reason": map(CLOSE_REASONS.__getitem__, gathered.reasons.tolist()),
            "root_span_id": analysed.ids_of(roots),
            "root_service": map(given.service_names.__getitem__, analysed.services[roots].tolist()),
            "root_name": map(given.spans.names.__getitem__, analysed.names[roots].tolist()),
            "start_ns": found.starts.tolist(),
            "end_ns": found.ends.tolist(),
            "first_arrival_ns": gathered.first_arrivals_ns.tolist(),
            "last_arrival_ns": gathered.last_arrivals_ns.tolist(),
            "span_count": np.diff(analysed.first).tolist(),
            "error_count": self.error_counts.tolist(),
            "duplicate_count": gathered.duplicate_counts.tolist(),
            "missing_root": repeat(False),
            "missing_parents": repeat(0),
            "error_origin": analysed.ids_of(np.where(found.origins >= 0, roots + found.origins, -1)),
            "count_milli": analysed.counts_milli[roots].tolist(),
            "services": map(self._services.__getitem__, of_resources),
            "critical_path": map(PackedPath, repeat(analysed), numbers),
            "links": map(link_columns.PackedLinks, repeat(self._links), numbers),
            "warnings": repeat(()),
            "resources": map(resources.__getitem__, of_resources),
            "scopes": map(scopes.__getitem__, scope_of.tolist()),
            "spans": map(PackedSpans, repeat(analysed), numbers),
            "sampled_by": repeat(""),
            "replay_id": repeat(self._replay_id),
        }
        closed = list(map(ClosedTrace, *columns.values()))
        for trace, head in zip(closed, self._packed.heads(), strict=True):
            trace.head = head  # type: ignore[misc]  # mypy knows no slots that a dataclass inherits
        return closed


class _Given(NamedTuple):
    """What there is to analyse, and what its numbers mean."""

    spans: SpanColumns
    columns: "Columns"
    service_names: list[str]
    resources: list[Resource]
    scopes: list[Scope]


def _given(gathered: GatheredColumns) -> _Given:
    """What compiled code reads."""
    spans = gathered.spans
    resource_of, resources = numbered([origin.resource for origin in spans.origins])
    scope_of, scopes = numbered([origin.scope for origin in spans.origins])
    service_of, service_names = numbered([resource.service for resource in resources])
    hosts: dict[str, int] = {"": -1}
    host_of = np.array([hosts.setdefault(resource.host, len(hosts)) for resource in resources], np.int64)
    table, resource_of_span = spans.table, resource_of[spans.table[ORIGIN]]
    columns = forest.Columns(
        gathered.first,
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
