"""An assembler that takes columns closes what one closes that takes spans."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import assembler
from stream.assembler import Assembler, Limits, Revision, SpanBudget
from tests.tracecore.strategies import requests_of_few_ids
from tracecore import batch_decoding, otlp
from tracecore.grouped_spans import GroupedSpans
from tracecore.span import Span

SECOND = 1_000_000_000
LIMITS = Limits(settle_ns=2 * SECOND, idle_ns=5 * SECOND, max_age_ns=60 * SECOND, max_spans=7, amend_ns=20 * SECOND)

Decode = Callable[[bytes], GroupedSpans | Sequence[Span]]


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    batch_decoding.warm_up()
    monkeypatch.setattr(assembler, "_FEW", 3)


def assembled(
    requests: Sequence[tuple[int, bytes]], memory_spans: int, decode: Decode
) -> tuple[list[Revision], Assembler, int]:
    """Revisions, spans made; what they come of, each with the seconds since the one before."""
    budget = SpanBudget(memory_spans)
    traces = Assembler(LIMITS, budget)
    closed: list[Revision] = []
    at_s = 0
    for offset, (seconds, request) in enumerate(requests):
        at_s += seconds
        closed += traces.add(decode(request), offset, at_s * SECOND)
    held = budget.held
    closed += traces.finish()
    return [revision._replace(spans=list(revision.spans)) for revision in closed], traces, held


def plain(request: bytes) -> list[Span]:
    return otlp.decode_spans(request)[0]


def grouped(request: bytes) -> GroupedSpans:
    (spans,) = batch_decoding.plain_spans([request])
    assert spans is not None
    return spans


@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 1, 3, 8, 31]), requests_of_few_ids()), min_size=1, max_size=12),
    st.sampled_from([5, 10, 1000]),
    st.data(),
)
def test_columns_or_spans_close_the_same_traces(
    requests: list[tuple[int, bytes]], memory_spans: int, data: st.DataObject
) -> None:
    expected, by_span, spans_held = assembled(requests, memory_spans, plain)
    closed, by_column, columns_held = assembled(requests, memory_spans, grouped)
    assert closed == expected
    assert by_column.counts == by_span.counts
    assert columns_held == spans_held
    # A worker meets both: small records are not worth compiled code.
    is_grouped = data.draw(st.lists(st.booleans(), min_size=len(requests), max_size=len(requests)))
    choice = iter(is_grouped)
    closed, mixed, held = assembled(
        requests, memory_spans, lambda request: (grouped if next(choice) else plain)(request)
    )
    assert closed == expected
    assert (mixed.counts, held) == (by_span.counts, spans_held)
