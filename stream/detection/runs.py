"""Traces in a row that were analysed together, so that they can be judged together."""

from collections.abc import Iterator, Sequence
from typing import overload

from tracecore.analysed import AnalysedSpans
from tracecore.batch_analysis import ClosedTraces
from tracecore.closed_trace import ClosedTrace
from tracecore.stretches import stretches

try:
    from stream.detection import usual_spans
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    usual_spans = None  # type: ignore[assignment]

#: Fewer spans than this are sooner judged one by one.
MIN_SPANS = 40


class Run(Sequence[ClosedTrace]):
    """Traces ``low`` to ``high`` of those that were analysed together; one is made when somebody looks at it."""

    def __init__(self, closed: ClosedTraces, low: int, high: int) -> None:
        self._closed = closed
        self._low = low
        self._high = high

    @property
    def spans(self) -> AnalysedSpans:
        """The spans of all that were analysed together."""
        return self._closed.analysed

    @property
    def numbers(self) -> range:
        """Which of the traces of their analysis these are."""
        return range(self._low, self._high)

    def span_count(self, start: int = 0) -> int:
        """How many spans they have, those from position ``start`` on."""
        first = self.spans.first
        return int(first[self._high] - first[self._low + start])

    def __len__(self) -> int:
        return self._high - self._low

    @overload
    def __getitem__(self, index: int) -> ClosedTrace: ...
    @overload
    def __getitem__(self, index: slice) -> list[ClosedTrace]: ...
    def __getitem__(self, index: int | slice) -> ClosedTrace | list[ClosedTrace]:
        if isinstance(index, slice):
            return [self._closed[number] for number in self.numbers[index]]
        return self._closed[self.numbers[index]]


def runs(closed: Sequence[ClosedTrace], *, only_first: bool = False) -> Iterator[Run | Sequence[ClosedTrace]]:
    """``closed`` in stretches, in their order: what is not a ``Run`` is to be judged one by one.

    In a run are traces that were analysed together and are many enough; with ``only_first`` first revisions alone.
    """
    if not isinstance(closed, ClosedTraces) or usual_spans is None or not usual_spans.is_warm():
        yield closed
        return
    fits = ~closed.needs_repair & (closed.revisions == 1) if only_first else ~closed.needs_repair
    for low, high in stretches(fits):
        run = Run(closed, low, high)
        yield run if fits[low] and run.span_count() >= MIN_SPANS else run[:]
