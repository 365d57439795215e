"""Clocks of different hosts, reconciled: children fit inside their parents.

Source: Jaeger, clockskew adjuster. Ours besides: what a consumer does with a message is no part of the producer's
span, so a consumer is only kept from starting before its producer.
"""

from tracecore.span import SpanKind
from tracecore.timeline import Timeline
from tracecore.tree import NO_PARENT, TraceTree

#: A host that lost its time server is off by seconds to minutes. What is off by more has no clock at all, or is no
#: skew but a span that was kept waiting; it is shown as sent.
MAX_SKEW_NS = 15 * 60 * 1_000_000_000
_PRODUCER, _CONSUMER = int(SpanKind.PRODUCER), int(SpanKind.CONSUMER)


def corrected_for_skew(tree: TraceTree, timeline: Timeline, max_skew_ns: int = MAX_SKEW_NS) -> Timeline:
    """Shift the spans of other hosts so that children fit inside their parents.

    Latency is assumed equal both ways. Spans of one host that follow each other shift together. A shift above
    ``max_skew_ns`` is not applied, and the span gets a warning; 0 turns correction off. An orphan is not compared
    with the root it hangs under. O(n).
    """
    spans, orphans = tree.spans, tree.orphans
    starts, ends, skews = list(timeline.starts), list(timeline.ends), list(timeline.skews)
    hosts = [span.resource.host for span in spans]
    if len(set(hosts)) == 1 and hosts[0]:
        return timeline
    for i, parent in enumerate(tree.parents):
        if parent == NO_PARENT or i in orphans:
            continue
        if hosts[i] == hosts[parent] and hosts[i]:
            shift = skews[parent]
        else:
            is_async = spans[i][4] == _CONSUMER or spans[parent][4] == _PRODUCER
            shift = _skew(starts[i], ends[i], starts[parent], ends[parent], is_async)
            if abs(shift) > max_skew_ns:
                limit = f"above the limit of {_milliseconds(max_skew_ns)}" if max_skew_ns else "correction is off"
                tree.warn(i, f"clock skew of {_milliseconds(shift)} is not corrected: {limit}")
                shift = 0
        if shift:
            starts[i] += shift
            ends[i] += shift
            skews[i] = shift
    return Timeline(starts, ends, skews)


def _skew(start: int, end: int, parent_start: int, parent_end: int, is_async: bool) -> int:
    """What to add to a child's times."""
    if not start or not parent_start:
        return 0
    spare = (parent_end - parent_start) - (end - start)
    if is_async or spare < 0:
        # It outlived its parent, who did not wait: all that is sure is that it did not start before.
        return max(parent_start - start, 0)
    if parent_start <= start and end <= parent_end:
        return 0
    return parent_start + spare // 2 - start


def _milliseconds(ns: int) -> str:
    return f"{ns / 1e6:g} ms"
