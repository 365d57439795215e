"""The critical path: what, at every moment of the root's time, the root was waiting for.

Walked backwards from the root's end: the child that ended last is what a span waited for; before that child's start,
the child that ended last of the others, as far as it ran before then; and where no child ran, the span itself. So
the parts sum to the root's duration, and no span's part is more than its self time.

Source: Zhang et al., CRISP: Critical Path Analysis of Large-Scale Microservice Architectures (USENIX ATC 2022),
except that a child which ran beside a later one is followed up to the later one's start, not passed over.
"""

from tracecore.timeline import Timeline
from tracecore.tree import TraceTree

#: Index of the span, start, end.
Stretch = tuple[int, int, int]


def critical_path(tree: TraceTree, timeline: Timeline) -> list[Stretch]:
    """The path of the tree's first root, in order of time; empty if the root takes no time. O(n log n)."""
    starts, ends, all_children = timeline.starts, timeline.ends, tree.children
    path: list[Stretch] = []
    todo = [(0, starts[0], ends[0])] if ends[0] > starts[0] else []
    while todo:
        i, low, cursor = todo.pop()
        children = all_children[i]
        if children:
            if len(children) > 1:
                children = sorted(children, key=ends.__getitem__, reverse=True)
            for child in children:
                start, end = starts[child], ends[child]
                if end <= low:
                    break
                if start < low:
                    start = low
                if end > cursor:
                    end = cursor
                if start >= end:
                    continue
                if end < cursor:
                    path.append((i, end, cursor))
                todo.append((child, start, end))
                cursor = start
        if cursor > low:
            path.append((i, low, cursor))
    path.sort(key=_start)
    return path


def path_shares(path: list[Stretch], span_count: int) -> list[int]:
    """Nanoseconds of the path by span."""
    shares = [0] * span_count
    for i, start, end in path:
        shares[i] += end - start
    return shares


def _start(stretch: Stretch) -> int:
    return stretch[1]
