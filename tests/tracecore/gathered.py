"""Traces as those hand them over that analyse many at once."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from tracecore.batch_analysis import ClosedTraces, GatheredColumns
from tracecore.closed_trace import CLOSE_REASONS, CloseReason
from tracecore.span import Span
from tracecore.span_columns import columns_of


def gathered(
    traces: Sequence[Sequence[Span]],
    revision: int = 1,
    reason: CloseReason = "complete",
    first_arrival_ns: int = 0,
    last_arrival_ns: int = 0,
    duplicate_count: int = 0,
) -> GatheredColumns:
    """Traces of at least one span each, all gathered alike."""
    columns = columns_of([span for spans in traces for span in spans])
    assert columns is not None
    told = revision, CLOSE_REASONS.index(reason), first_arrival_ns, last_arrival_ns, duplicate_count
    first = np.array(list(accumulate(map(len, traces), initial=0)), np.int64)
    return GatheredColumns(columns, first, *(np.full(len(traces), value, np.int64) for value in told))


def analysed(traces: Sequence[Sequence[Span]], revision: int = 1) -> ClosedTraces:
    """Traces analysed together."""
    return ClosedTraces(gathered(traces, revision), "")
