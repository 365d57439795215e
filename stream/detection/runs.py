"""Traces in a row that were analysed together, so that they can be judged together."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import cast

from tracecore.analysed import AnalysedSpans, PackedSpans
from tracecore.closed_trace import ClosedTrace

try:
    from stream.detection import usual_spans
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    usual_spans = None  # type: ignore[assignment]

#: Fewer spans than this are sooner judged one by one.
MIN_SPANS = 40

Run = tuple[AnalysedSpans | None, list[ClosedTrace]]


def runs(closed: Sequence[ClosedTrace], fits: Callable[[ClosedTrace], bool] = lambda trace: True) -> Iterator[Run]:
    """``closed`` in stretches, in their order: each with the columns of its spans, or None to be judged one by one.

    Those have columns that ``fits`` is true of, that were analysed together, and that are many enough.
    """
    is_warm = usual_spans is not None and usual_spans.is_warm()

    def columns(trace: ClosedTrace) -> AnalysedSpans | None:
        spans: object = trace.spans
        return spans.source if is_warm and isinstance(spans, PackedSpans) and fits(trace) else None

    for spans, traces in groupby(closed, columns):
        run = list(traces)
        yield spans if sum(trace.span_count for trace in run) >= MIN_SPANS else None, run


def numbers_of(run: Sequence[ClosedTrace]) -> list[int]:
    """Which of the traces of their analysis those of a run are."""
    return [cast(PackedSpans, trace.spans).trace for trace in run]
