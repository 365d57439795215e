"""The network between client and server: what no span of the service that suffers it shows."""

from tracecore.closed_trace import NO_GAP
from tracecore.span import SpanKind
from tracecore.timeline import Timeline
from tracecore.tree import NO_PARENT, TraceTree


def network_gaps(tree: TraceTree, timeline: Timeline) -> list[int]:
    """By span: on a server's span how much longer its client's span lasted, in nanoseconds; else ``NO_GAP``.

    Only durations are compared, so clocks do not matter. No gap is told if the server outlived its client, who did
    not wait, or if one client's span holds several servers' spans. O(n).
    """
    spans, starts, ends = tree.spans, timeline.starts, timeline.ends
    gaps = [NO_GAP] * len(spans)
    server, client = int(SpanKind.SERVER), int(SpanKind.CLIENT)
    for i, parent in enumerate(tree.parents):
        if spans[i][4] != server or parent == NO_PARENT or spans[parent][4] != client or i in tree.orphans:
            continue
        siblings = tree.children[parent]
        if len(siblings) > 1 and sum(spans[sibling][4] == server for sibling in siblings) > 1:
            continue
        gap = (ends[parent] - starts[parent]) - (ends[i] - starts[i])
        if gap >= 0:
            gaps[i] = gap
    return gaps
