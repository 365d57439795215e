"""When the spans of a tree ran, as far as one can compute with it: as sent, but for times that cannot be."""

from collections.abc import Sequence
from dataclasses import dataclass

from tracecore.tree import TraceTree


@dataclass(frozen=True, slots=True)
class Timeline:
    """Unix nanoseconds, parallel to the tree's spans; no span ends before it starts.

    ``skews`` is what was added to a span's times, as sent, to see them on the root's clock.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    skews: Sequence[int]

    def bounds(self) -> tuple[int, int]:
        """First start and last end; spans that have no time at all do not count."""
        dated = [start for start in self.starts if start > 0]
        return (min(dated), max(self.ends)) if dated else (0, 0)


def timeline_as_sent(tree: TraceTree) -> Timeline:
    """Times as sent; a span that ends before it starts, or lacks one of both times, lasts no time, with a warning."""
    starts = [span[5] for span in tree.spans]
    ends = [span[6] for span in tree.spans]
    for i, start in enumerate(starts):
        if 0 < start <= ends[i]:
            continue
        if not start:
            starts[i] = ends[i]
            tree.warn(i, "has no start time")
        elif not ends[i]:
            ends[i] = start
            tree.warn(i, "has no end time")
        else:
            tree.warn(i, f"ends {start - ends[i]} ns before it starts")
            ends[i] = start
    return Timeline(starts, ends, [0] * len(starts))
