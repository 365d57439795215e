"""The door to the algebra: spans of one trace in, a closed trace out. The tree is built once, then asked everything."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

from tracecore.closed_trace import ClosedTrace, CloseReason, PathSegment, TracedSpan
from tracecore.critical_path import critical_path, path_shares
from tracecore.dependency_links import dependency_links
from tracecore.error_origin import NO_ERROR, error_origin
from tracecore.hops import network_gaps
from tracecore.self_time import self_times
from tracecore.skew import MAX_SKEW_NS, corrected_for_skew
from tracecore.span import Span, StatusCode
from tracecore.timeline import timeline_as_sent
from tracecore.tree import NO_PARENT, TraceTree, trace_tree

T = TypeVar("T", bound=Hashable)

_ERROR = int(StatusCode.ERROR)


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
    """One revision of a trace, with all that the algebra finds.

    ``spans`` in any order, all of ``trace_id``, at least one (``ValueError``); the same spans in another order give
    the same revision. Duplicates among them are dropped by ``span.identity``, add to ``duplicate_count``, and
    ``span.truer`` says which stays. ``warnings`` are what the assembler has to tell of the
    trace, e.g. that it had to close it early. O(n log n), no recursion.
    """
    if not spans:
        raise ValueError(f"trace {trace_id.hex()} has no spans")
    tree = trace_tree(spans)
    timeline = corrected_for_skew(tree, timeline_as_sent(tree), max_skew_ns)
    own = self_times(tree, timeline)
    path = critical_path(tree, timeline)
    shares = path_shares(path, len(tree.spans))
    gaps = network_gaps(tree, timeline)
    errors = [span[7] for span in tree.spans].count(_ERROR)
    origin = error_origin(tree, timeline) if errors else NO_ERROR
    resource_of, resources = _table([span[9] for span in tree.spans])
    scope_of, scopes = _table([span[10] for span in tree.spans])
    span_ids, skews = tree.span_ids, timeline.skews
    new, no_warnings = TracedSpan._make, ()
    traced: list[TracedSpan] = []
    for i, span in enumerate(tree.spans):
        _, _, parent_span_id, name, kind, start_ns, end_ns, status, _, resource, _, raw = span
        parent = tree.parents[i]
        traced.append(
            new(
                (
                    span_ids[i],
                    parent_span_id,
                    span_ids[parent] if parent != NO_PARENT else b"",
                    tree.depths[i],
                    resource.service,
                    name,
                    kind,
                    status,
                    start_ns,
                    end_ns,
                    skews[i],
                    own[i],
                    shares[i],
                    gaps[i],
                    tuple(tree.warnings[i]) if i in tree.warnings else no_warnings,
                    resource_of[i],
                    scope_of[i],
                    raw,
                )
            )
        )
    start_ns, end_ns = timeline.bounds()
    root = tree.spans[0]
    return ClosedTrace(
        trace_id=trace_id,
        revision=revision,
        reason=reason,
        root_span_id=span_ids[0],
        root_service=root.service,
        root_name=root.name,
        start_ns=start_ns,
        end_ns=end_ns,
        first_arrival_ns=first_arrival_ns,
        last_arrival_ns=last_arrival_ns,
        span_count=len(traced),
        error_count=errors,
        duplicate_count=duplicate_count + tree.duplicates,
        missing_root=tree.missing_root,
        missing_parents=tree.missing_parents,
        error_origin=span_ids[origin] if origin != NO_ERROR else b"",
        count_milli=root.count_milli,
        services=tuple(sorted({resource.service for resource in resources})),
        critical_path=tuple([PathSegment._make((span_ids[i], start, end)) for i, start, end in path]),
        links=dependency_links(tree, timeline, gaps),
        warnings=_trace_warnings(tree, warnings),
        resources=resources,
        scopes=scopes,
        spans=tuple(traced),
        replay_id=replay_id,
    )


def _table(values: Sequence[T]) -> tuple[list[int], tuple[T, ...]]:
    """Index of every value in the table of distinct values, and that table, in order of appearance."""
    # Most values are one of few objects: comparing objects first saves hashing a resource's bytes for every span.
    by_object: dict[int, int] = {}
    by_value: dict[T, int] = {}
    indices: list[int] = []
    for value in values:
        index = by_object.get(id(value))
        if index is None:
            index = by_object[id(value)] = by_value.setdefault(value, len(by_value))
        indices.append(index)
    return indices, tuple(by_value)


def _trace_warnings(tree: TraceTree, told: Sequence[str]) -> tuple[str, ...]:
    found = list(told)
    if tree.missing_root:
        found.append("the root is missing")
    if tree.root_count > 1:
        found.append(f"{tree.root_count} roots")
    if tree.missing_parents:
        found.append(f"{tree.missing_parents} parents are missing")
    return tuple(sorted(set(found)))
