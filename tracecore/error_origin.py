"""Where an error began: callers that fail because a callee failed are not to blame."""

from tracecore.span import StatusCode
from tracecore.timeline import Timeline
from tracecore.tree import NO_PARENT, TraceTree

NO_ERROR = -1


def error_origin(tree: TraceTree, timeline: Timeline) -> int:
    """Index of the span that failed first and deepest; ``NO_ERROR`` if none failed.

    From the failed span nearest to the root down to the failed span below it that ended first, and on from there;
    spans between, that did not fail, are passed through. O(n).
    """
    ends = timeline.ends
    error = int(StatusCode.ERROR)
    # Of the failed spans below a span that have no failed span between, the one that ended first; last: the roots'.
    below = [NO_ERROR] * (len(ends) + 1)
    for i in range(len(ends) - 1, -1, -1):
        failed = i if tree.spans[i].status == error else below[i]
        if failed == NO_ERROR:
            continue
        parent = tree.parents[i] if tree.parents[i] != NO_PARENT else len(ends)
        rival = below[parent]
        # In the tree's order backwards: of two that ended together, the earlier in the tree.
        if rival == NO_ERROR or ends[failed] <= ends[rival]:
            below[parent] = failed
    origin = below[len(ends)]
    while origin != NO_ERROR and below[origin] != NO_ERROR:
        origin = below[origin]
    return origin
