"""Compiled code counts into windows what plain Python counts, span by span."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import compiled, window_tally
from stream.assembler import Arrived, Limits, Revision, SpanBudget
from stream.open_traces import OpenTraces
from stream.revision_columns import RevisionColumns, SpanSources
from stream.windows import WindowLimits, Windows
from tests.tracecore.builders import order_spans
from tests.tracecore.strategies import shop_traces, spans_of_a_trace, tidy_traces
from tracecore.batch_analysis import ClosedTraces
from tracecore.closed_trace import ClosedTrace
from tracecore.span import Span
from tracecore.window import OperationWindow, Window

SECOND = 1_000_000_000
#: Some of the traces come late, and some have times that are not credible.
LIMITS = WindowLimits(grace_ns=10 * SECOND, past_ns=30 * SECOND, future_ns=2 * SECOND, max_series=100)


@pytest.fixture(autouse=True)
def warm() -> None:
    compiled.warm_up()


def closed(traces: list[list[Span]], arrivals_ns: list[int], offset: int) -> RevisionColumns:
    """Each trace as it closes when nothing more comes for it; ``offset`` is that of the first, and falls."""
    parts: list[RevisionColumns] = []
    sources = SpanSources()
    for spans, arrival_ns in zip(traces, arrivals_ns, strict=True):
        assembler = OpenTraces(Limits(1, 1, 1, 1000, 1), SpanBudget(10**6), sources)
        assembler.add([Arrived(spans, offset, arrival_ns)])
        parts.append(assembler.finish())
        offset -= 1
    return RevisionColumns.joined(parts)


def counted(
    traces: list[list[Span]], arrivals_s: list[int], limits: WindowLimits, together: bool
) -> tuple[object, ...]:
    """All that windows say of traces."""
    held = Windows(3, limits, told_until_ns=traces[0][0].start_ns - 20 * SECOND)
    # The core's clock begins at zero, the assembler's after that.
    arrivals_ns = [
        max(1, max(span.end_ns for span in spans) + s * SECOND) for spans, s in zip(traces, arrivals_s, strict=True)
    ]
    half = len(traces) // 2
    misdated = count(held, closed(traces[:half], arrivals_ns[:half], 100), together) if half else {}
    first_offset = held.first_offset
    told = held.advance(arrivals_ns[0] + 12 * SECOND)
    more = count(held, closed(traces[half:], arrivals_ns[half:], 100 - half), together)
    return (
        misdated, more, first_offset, held.first_offset, held.overflowed_spans, told, held.changed(),
        held.advance(2**62),
    )  # fmt: skip


def count(held: Windows, revisions: RevisionColumns, together: bool) -> dict[int, set[bytes] | Exception]:
    analysed = ClosedTraces(revisions.gathered, "")
    if together:
        return held.count_columns(analysed, revisions, np.arange(len(revisions)))
    alone = [held.count_revision(trace, one) for trace, one in zip(analysed, revisions, strict=True)]
    return {place: misdated for place, misdated in enumerate(alone) if misdated}


def spans_in(told: list[Window]) -> int:
    return sum(window.spans for window in told if isinstance(window, OperationWindow))


@given(
    tidy_traces() | shop_traces() | st.lists(spans_of_a_trace(), min_size=1, max_size=3),
    st.data(),
    st.sampled_from([100, 2]),
)
def test_traces_counted_together_are_as_counted_one_by_one(
    traces: list[list[Span]], data: st.DataObject, max_series: int
) -> None:
    limits = WindowLimits(LIMITS.grace_ns, LIMITS.past_ns, LIMITS.future_ns, max_series)
    arrivals_s = data.draw(st.lists(st.sampled_from([-9, 0, 1, 25, 60]), min_size=len(traces), max_size=len(traces)))
    together = counted(traces, arrivals_s, limits, together=True)
    one_by_one = counted(traces, arrivals_s, limits, together=False)
    assert repr(together) == repr(one_by_one)


@given(tidy_traces(), st.integers(1, 5))
def test_of_a_later_revision_only_what_is_new_is_counted(traces: list[list[Span]], settled: int) -> None:
    assembler = OpenTraces(Limits(1, 1, 1, 1000, 100), SpanBudget(10**6), SpanSources())
    begin_ns = max(span.end_ns for spans in traces for span in spans) + 1
    parts = [[span for spans in traces for span in spans[:settled]], [span for spans in traces for span in spans]]
    held = {together: Windows(3, LIMITS) for together in (True, False)}
    for offset, part in enumerate(parts):
        assembler.add([Arrived(part, offset, begin_ns + 10 * offset)])
        revisions = assembler.advance(begin_ns + 10 * offset + 5)
        if len(revisions):
            told = [count(windows, revisions, together) for together, windows in held.items()]
            assert told[0] == told[1]
    changed = held[True].changed()
    assert changed == held[False].changed()
    assert spans_in(changed) == sum(map(len, traces))


def test_a_bug_at_one_trace_does_not_keep_others_from_being_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [[span] for span in order_spans()]
    revisions = closed(spans, [one[0].end_ns + SECOND for one in spans], 100)
    analysed = ClosedTraces(revisions.gathered, "")
    held = Windows(0, LIMITS)
    monkeypatch.setattr(window_tally, "is_warm", lambda: False)
    found = held.count_columns(analysed, revisions, np.arange(len(revisions)))
    expected = held.changed()
    assert expected and not found

    def count_revision(trace: ClosedTrace, revision: Revision) -> set[bytes]:
        if revision.first_offset == 99:
            raise RuntimeError("bug")
        return Windows.count_revision(held, trace, revision)

    held = Windows(0, LIMITS)
    monkeypatch.setattr(held, "count_revision", count_revision)
    ((place, error),) = held.count_columns(analysed, revisions, np.arange(len(revisions))).items()
    assert (place, str(error)) == (1, "bug")
    assert spans_in(held.changed()) == spans_in(expected) - 1
