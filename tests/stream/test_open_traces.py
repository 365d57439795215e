"""Compiled code that holds traces in flat arrays closes what the plain assembler closes."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import open_traces
from stream.assembler import Arrived, Assembler, Limits, Revision, SpanBudget
from stream.open_traces import OpenTraces
from stream.revision_columns import SpanSources
from tests.stream.workload import load
from tests.tracecore.builders import span
from tests.tracecore.strategies import requests_of_few_ids
from tracecore import batch_decoding, otlp
from tracecore.record_spans import RecordSpans
from tracecore.span import Span

SECOND = 1_000_000_000
LIMITS = Limits(settle_ns=2 * SECOND, idle_ns=5 * SECOND, max_age_ns=60 * SECOND, max_spans=7, amend_ns=20 * SECOND)

Arrivals = Sequence[tuple[int, bytes]]
Decode = Callable[[Sequence[bytes]], Iterable[RecordSpans | list[Span]]]


@pytest.fixture(autouse=True)
def compiled() -> None:
    batch_decoding.warm_up()
    open_traces.warm_up()


def decoded(requests: Sequence[bytes]) -> list[RecordSpans]:
    spans = [one for one in batch_decoding.plain_spans(requests) if one is not None] if requests else []
    assert len(spans) == len(requests)
    return spans


def plain(request: bytes) -> list[Span]:
    return otlp.decode_spans(request)[0]


class Seen:
    """All that an assembler shows while requests come, each some seconds after the one before, and several at once."""

    def __init__(
        self, traces: Assembler | OpenTraces, budget: SpanBudget, arrivals: Arrivals, at_once: int,
        decode: Decode, release: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.revisions: list[list[Revision]] = []
        self.states: list[object] = []
        ids: set[bytes] = set()
        times_s = list(accumulate(seconds for seconds, _ in arrivals))
        for call, first in enumerate(range(0, len(arrivals), at_once)):
            requests = [request for _, request in arrivals[first : first + at_once]]
            if call % 3 == 1:
                self.revisions.append(list(traces.advance(times_s[first] * SECOND - SECOND // 2)))
            records = []
            for offset, (request, spans) in enumerate(zip(requests, decode(requests), strict=True), first):
                here = sorted({span.trace_id for span in plain(request)})
                # Some of them not open then, some not even known.
                interesting = [*here[::2], *sorted(ids)[1::2], bytes(16)]
                records.append(Arrived(spans, offset, times_s[offset] * SECOND, interesting if offset % 4 else ()))
            self.revisions.append(list(traces.add(records)))
            release()
            ids |= {one.trace_id for one in self.revisions[-1]}
            for trace_id in sorted(ids)[1::3]:
                traces.mark_kept(trace_id, "slow")
            self.states.append(
                (budget.held, deepcopy(traces.counts), traces.open_traces, traces.first_offset, traces.now_ns,
                 traces.open_spans(), [traces.kept_by(trace_id) for trace_id in sorted(ids)])
            )  # fmt: skip
        self.revisions.append(list(traces.finish()))
        traces.drop()
        self.states.append((budget.held, traces.counts, traces.open_traces))


def both(
    limits: Limits, arrivals: Arrivals, at_once: int, memory_spans: int,
    decode: Decode,
) -> tuple[Seen, Seen]:  # fmt: skip
    budget = SpanBudget(memory_spans)
    expected = Seen(Assembler(limits, budget), budget, arrivals, at_once, lambda requests: map(plain, requests))
    budget, sources = SpanBudget(memory_spans), SpanSources()
    found = Seen(OpenTraces(limits, budget, sources), budget, arrivals, at_once, decode, sources.release)
    assert not sources.uses.any()
    return expected, found


arrivals = st.lists(st.tuples(st.sampled_from([0, 0, 1, 3, 8, 31]), requests_of_few_ids()), min_size=1, max_size=12)


@given(arrivals, st.integers(1, 5), st.sampled_from([5, 10, 1000]), st.data())
def test_columns_or_spans_close_the_same_traces(
    arrivals: Arrivals, at_once: int, memory_spans: int, data: st.DataObject
) -> None:
    # A worker meets both: what is not as exporters write it is decoded by plain Python.
    choice = iter(data.draw(st.lists(st.booleans(), min_size=len(arrivals), max_size=len(arrivals))))

    def decode(requests: Sequence[bytes]) -> Iterable[RecordSpans | list[Span]]:
        which = [next(choice) for _ in requests]
        together = iter(decoded([request for request, chosen in zip(requests, which, strict=True) if chosen]))
        return [next(together) if chosen else plain(request) for request, chosen in zip(requests, which, strict=True)]

    expected, found = both(LIMITS, arrivals, at_once, memory_spans, decode)
    assert found.revisions == expected.revisions
    assert found.states == expected.states


@settings(max_examples=12)  # each is four hundred traces, twice, and takes a second
@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([1, 7]))
def test_many_traces_in_any_order_outgrow_all_arrays(seed: int, spans_per_record: int, at_once: int) -> None:
    # Fewer slots than rows, many times over; rows that are given back in another order than they were taken.
    work = load(
        traces=400, spans_per_trace=3, partitions=1, seed=seed, start_ns=SECOND, spans_per_record=spans_per_record
    )
    arrivals = [(number % 5 == 0, value) for number, (_, value) in enumerate(work.records)]
    limits = Limits(SECOND, 2 * SECOND, 60 * SECOND, 1000, 3 * SECOND)
    expected, found = both(limits, arrivals, at_once, 10**6, decoded)
    assert found.revisions == expected.revisions
    assert found.states == expected.states


@pytest.mark.parametrize("kind", [Assembler, OpenTraces])
def test_a_partition_that_is_new_to_a_full_worker_takes_its_room_from_what_others_remember(
    kind: Callable[..., Assembler | OpenTraces],
) -> None:
    budget = SpanBudget(100)
    shared = () if kind is Assembler else (SpanSources(),)
    first, second, new = (kind(LIMITS, budget, *shared) for _ in range(3))
    for number, old in enumerate((first, second)):
        old.add([Arrived([span(trace=50 * number + k) for k in range(1, 46)], 0, (1 + number) * SECOND)])
        assert len(old.advance((4 + number) * SECOND)) == 45
    assert (budget.held, first.oldest_closed_ns, second.oldest_closed_ns) == (90, 4 * SECOND, 5 * SECOND)
    records = [Arrived([span(trace=k), span(trace=k)], k, 6 * SECOND) for k in range(200, 220)]
    assert not new.add(records)
    assert (new.open_traces, new.counts.shed_traces, budget.held) == (20, 0, 100)
    # What has been remembered for the longest time goes first, whoever remembers it; then the other.
    assert (first.counts.forgotten_early, second.counts.forgotten_early) == (30, 0)
    assert not new.add([Arrived([span(trace=300 + k) for k in range(50)], 0, 6 * SECOND)])
    assert first.oldest_closed_ns is None and second.counts.forgotten_early == 35
    # Nothing else is to be had: what is open closes early, and is not remembered.
    assert [one.shed for one in new.add([Arrived([span(trace=400 + k) for k in range(15)], 0, 6 * SECOND)])] == [
        True
    ] * 3
    assert (second.oldest_closed_ns, budget.held) == (None, 99)
    for one in (first, second, new):
        one.drop()
    assert budget.held == 0


def test_the_bytes_of_a_trace_that_stays_open_are_kept_apart_from_their_records() -> None:
    budget, sources = SpanBudget(1000), SpanSources()
    limits = Limits(2 * SECOND, 10 * SECOND, 600 * SECOND, 1000, SECOND)
    traces = OpenTraces(limits, budget, sources)
    root = span(id=1, trace=1)
    spans = [root, *(span(trace=1, parent=root) for _ in range(50))]
    closed: list[Revision] = []
    for at_s, one in enumerate(spans):
        (record,) = decoded([otlp.encode_spans([one, span(trace=1000 + at_s)])])
        closed += traces.add([Arrived(record, at_s, at_s * SECOND)])
        sources.release()
    assert len([one for one in closed if len(one.spans) == 1]) > 40
    # What came in the first half minute is of one source now.
    assert traces.open_traces < 5
    held = int((sources.uses > 0).sum())
    assert held < 30
    (last,) = [one for one in traces.finish() if len(one.spans) > 1]
    assert list(last.spans) == spans
