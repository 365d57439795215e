"""Compiled code counts into windows what plain Python counts, span by span."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import compiled, window_tally, windows
from stream.windows import ToCount, WindowLimits, Windows
from tests.tracecore.strategies import shop_traces, spans_of_a_trace, tidy_traces
from tracecore import batch_analysis
from tracecore.analysis import Gathered
from tracecore.batch_analysis import closed_traces
from tracecore.span import Span

SECOND = 1_000_000_000
#: Some of the traces come late, and some have times that are not credible.
LIMITS = WindowLimits(grace_ns=10 * SECOND, past_ns=30 * SECOND, future_ns=2 * SECOND, max_series=100)


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.warm_up()
    monkeypatch.setattr(batch_analysis, "MIN_SPANS", 0)


def counted(
    monkeypatch: pytest.MonkeyPatch,
    traces: list[list[Span]],
    arrivals_s: list[int],
    limits: WindowLimits,
    together: bool,
) -> tuple[object, ...]:
    """All that windows say of traces."""
    monkeypatch.setattr(window_tally, "is_warm", lambda: together)
    closed = closed_traces([Gathered(spans[0].trace_id, spans, 1, "complete", 0, 0) for spans in traces])
    held = Windows(3, limits, told_until_ns=traces[0][0].start_ns - 20 * SECOND)
    arrivals_ns = [max(span.end_ns for span in spans) + s * SECOND for spans, s in zip(traces, arrivals_s, strict=True)]
    revisions = [
        ToCount(trace, spans, 0, arrival_ns, 100 - offset)
        for offset, (trace, spans, arrival_ns) in enumerate(zip(closed, traces, arrivals_ns, strict=True))
    ]
    half = len(revisions) // 2
    misdated = held.count_all(revisions[:half])
    first_offset = held.first_offset
    told = held.advance(arrivals_ns[0] + 12 * SECOND)
    misdated += held.count_all(revisions[half:])
    return misdated, first_offset, held.first_offset, held.overflowed_spans, told, held.changed(), held.advance(2**62)


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
    with pytest.MonkeyPatch.context() as patch:
        together = counted(patch, traces, arrivals_s, limits, together=True)
        one_by_one = counted(patch, traces, arrivals_s, limits, together=False)
    assert repr(together) == repr(one_by_one)


def test_a_bug_at_one_trace_does_not_keep_others_from_being_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Windows(0, LIMITS)
    revision = ToCount(None, [], 0, SECOND, 0)  # type: ignore[arg-type]
    monkeypatch.setattr(windows, "_analysed", lambda revision: None)
    (error,) = held.count_all([revision])
    assert isinstance(error, AttributeError)
