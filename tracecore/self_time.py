"""Self time: how long a span ran while none of its children did."""

from collections.abc import Sequence

from tracecore.timeline import Timeline
from tracecore.tree import TraceTree


def self_times(tree: TraceTree, timeline: Timeline) -> list[int]:
    """Nanoseconds by span: its duration less the union of its children's times, as far as they lie within its own.

    Children may overlap and outlive their parent. O(n log n).
    """
    starts, ends = timeline.starts, timeline.ends
    # Plain loops with the cases of no and one child apart: they are nine of ten spans (bench/algebra.py).
    times: list[int] = []
    for i, children in enumerate(tree.children):
        start, end = starts[i], ends[i]
        if not children:
            times.append(end - start)
        elif len(children) == 1:
            child = children[0]
            covered = min(ends[child], end) - max(starts[child], start)
            times.append(end - start - covered if covered > 0 else end - start)
        else:
            times.append(_uncovered(start, end, children, starts, ends))
    return times


def _uncovered(start: int, end: int, children: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> int:
    uncovered, cursor = 0, start
    # Sent in order of start, but the correction of clocks may have moved some.
    for child in sorted(children, key=starts.__getitem__):
        child_start, child_end = starts[child], ends[child]
        if child_start >= end:
            break
        if child_start > cursor:
            uncovered += child_start - cursor
        if child_end > cursor:
            cursor = child_end
    return uncovered + max(end - cursor, 0)
