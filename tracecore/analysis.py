"""The door to the algebra: spans of one trace in, a closed trace out. The tree is built once, then asked everything."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from tracecore.closed_trace import ClosedTrace, CloseReason, PathSegment, TracedSpan
from tracecore.critical_path import critical_path, path_shares
from tracecore.dependency_links import dependency_links
from tracecore.error_origin import NO_ERROR, error_origin
from tracecore.hops import network_gaps
from tracecore.self_time import self_times
from tracecore.skew import MAX_SKEW_NS, corrected_for_skew
from tracecore.span import Span, StatusCode
from tracecore.timeline import timeline_as_sent
from tracecore.tree import TraceTree, trace_tree

T = TypeVar("T", bound=Hashable)

_ERROR = int(StatusCode.ERROR)
# What ``_make`` does, without a step in Python for each.
_new_span = partial(tuple.__new__, TracedSpan)
new_segment = partial(tuple.__new__, PathSegment)
_service = attrgetter("service")
_STATUS, _RESOURCE, _SCOPE = map(Span._fields.index, ("status", "resource", "scope"))


class Gathered(NamedTuple):
    """All spans of a trace that closes, in any order, and what its assembler knows of it.

    ``spans`` are at least one, all of ``trace_id``; duplicates among them are dropped by ``span.identity``, add to
    ``duplicate_count``, and ``span.truer`` says which stays.
    """

    trace_id: bytes
    spans: Sequence[Span]
    revision: int
    reason: CloseReason
    first_arrival_ns: int
    last_arrival_ns: int
    duplicate_count: int = 0


def closed_trace(
    trace_id: bytes,
    spans: Sequence[Span],
    *,
    revision: int,
    reason: CloseReason,
    first_arrival_ns: int,
    last_arrival_ns: int,
    duplicate_count: int = 0,
    replay_id: str = "",
    max_skew_ns: int = MAX_SKEW_NS,
    warnings: Sequence[str] = (),
) -> ClosedTrace:
    """One revision of a trace, with all that the algebra finds; arguments as of ``Gathered``.

    The same spans in another order give the same revision. ``warnings`` are what the assembler has to tell of the
    trace, e.g. that it had to close it early. ``ValueError`` without spans. O(n log n), no recursion.
    """
    if not spans:
        raise ValueError(f"trace {trace_id.hex()} has no spans")
    tree = trace_tree(spans)
    timeline = corrected_for_skew(tree, timeline_as_sent(tree), max_skew_ns)
    path = critical_path(tree, timeline)
    gaps = network_gaps(tree, timeline)
    span_ids, warned = tree.span_ids, tree.warnings
    columns = list(zip(*tree.spans, strict=True))
    resource_of, resources = _table(columns[_RESOURCE])
    scope_of, scopes = _table(columns[_SCOPE])
    # The parent of a root is number -1: the last of these.
    parent_ids = (*span_ids, b"")
    traced = tuple(
        traced_spans(
            columns,
            span_ids=span_ids,
            tree_parent_ids=map(parent_ids.__getitem__, tree.parents),
            depths=tree.depths,
            skews=timeline.skews,
            self_times=self_times(tree, timeline),
            path_shares=path_shares(path, len(span_ids)),
            gaps=gaps,
            warnings=[tuple(warned.get(i, ())) for i in range(len(span_ids))] if warned else repeat(()),
            resource_of=resource_of,
            scope_of=scope_of,
        )
    )
    origin = error_origin(tree, timeline) if _ERROR in columns[_STATUS] else NO_ERROR
    start_ns, end_ns = timeline.bounds()
    return ClosedTrace(
        trace_id=trace_id,
        revision=revision,
        reason=reason,
        root_span_id=span_ids[0],
        root_service=tree.spans[0].service,
        root_name=tree.spans[0].name,
        start_ns=start_ns,
        end_ns=end_ns,
        first_arrival_ns=first_arrival_ns,
        last_arrival_ns=last_arrival_ns,
        span_count=len(traced),
        error_count=columns[_STATUS].count(_ERROR),
        duplicate_count=duplicate_count + tree.duplicates,
        missing_root=tree.missing_root,
        missing_parents=tree.missing_parents,
        error_origin=span_ids[origin] if origin != NO_ERROR else b"",
        count_milli=tree.spans[0].count_milli,
        services=tuple(sorted({resource.service for resource in resources})),
        critical_path=tuple(map(new_segment, [(span_ids[i], start, end) for i, start, end in path])),
        links=dependency_links(tree, timeline, gaps),
        warnings=_trace_warnings(tree, warnings),
        resources=resources,
        scopes=scopes,
        spans=traced,
        replay_id=replay_id,
    )


def traced_spans(
    columns: Sequence[Sequence[Any]],
    *,
    span_ids: Iterable[bytes],
    tree_parent_ids: Iterable[bytes],
    depths: Iterable[int],
    skews: Iterable[int],
    self_times: Iterable[int],
    path_shares: Iterable[int],
    gaps: Iterable[int],
    warnings: Iterable[tuple[str, ...]],
    resource_of: Iterable[int],
    scope_of: Iterable[int],
) -> Iterator[TracedSpan]:
    """Spans in the order of their trees, with what was found of them; ``columns`` are the fields of ``Span``."""
    # Column by column, in C: a row at a time costs three times as much, and every span is here.
    _, _, parent_ids, names, kinds, starts, ends, statuses, _, resources, _, raws = columns
    services = map(_service, resources)
    return map(
        _new_span,
        zip(
            span_ids, parent_ids, tree_parent_ids, depths, services, names, kinds, statuses, starts, ends, skews,
            self_times, path_shares, gaps, warnings, resource_of, scope_of, raws, strict=False,
        ),
    )  # fmt: skip


def _table(values: Sequence[T]) -> tuple[list[int], tuple[T, ...]]:
    """Index of every value in the table of distinct values, and that table, in order of appearance."""
    # Most values are one of few objects: telling objects apart saves hashing a resource's bytes for every span.
    keys = list(map(id, values))
    objects = dict(zip(keys, values, strict=True))
    if len(objects) == 1:
        return [0] * len(keys), (values[0],)
    by_value: dict[T, int] = {}
    index_of = {key: by_value.setdefault(value, len(by_value)) for key, value in objects.items()}
    return list(map(index_of.__getitem__, keys)), tuple(by_value)


def _trace_warnings(tree: TraceTree, told: Sequence[str]) -> tuple[str, ...]:
    found = list(told)
    if tree.missing_root:
        found.append("the root is missing")
    if tree.root_count > 1:
        found.append(f"{tree.root_count} roots")
    if tree.missing_parents:
        found.append(f"{tree.missing_parents} parents are missing")
    return tuple(sorted(set(found)))
