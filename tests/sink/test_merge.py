"""What becomes of a trace when more is told of it."""

from hypothesis import given
from hypothesis import strategies as st

from sink.batches import revision_of
from sink.merge import RECOMPUTED, Revision, folded, known_trace
from tests.sink.builders import checkout_trace, trace_of
from tracecore.closed_trace import ClosedTrace
from tracecore.wire import encode_trace

SPANS = checkout_trace(7, spans=6)


def whole(trace: ClosedTrace) -> Revision:
    return revision_of([(trace, record) for record in encode_trace(trace)])


def span_ids(revision: Revision | None) -> set[bytes]:
    assert revision is not None
    return {span.span_id for span in revision.trace.spans}


def test_the_first_revision_is_taken_as_it_is() -> None:
    first = whole(trace_of(SPANS))
    assert folded(None, [first]) is first


def test_a_revision_with_every_known_span_is_taken_as_it_is() -> None:
    later = whole(trace_of(SPANS, 2, "late"))
    assert folded(known_trace(trace_of(SPANS[:3])), [later]) is later
    assert folded(None, [whole(trace_of(SPANS[:3])), later]) is later


def test_a_revision_that_brings_nothing_new_changes_nothing() -> None:
    assert folded(known_trace(trace_of(SPANS)), [whole(trace_of(SPANS[:3], 2))]) is None


def test_a_partial_revision_is_united_with_what_is_known_and_analysed_again() -> None:
    result = folded(known_trace(trace_of(SPANS[:4])), [whole(trace_of(SPANS[3:], 3, "late"))])
    assert result is not None and result.digest == RECOMPUTED
    fresh = trace_of(SPANS)
    assert result.trace.spans == fresh.spans
    assert result.trace.critical_path == fresh.critical_path
    assert (result.trace.span_count, result.trace.revision, result.trace.reason) == (6, 3, "late")
    assert result.trace.is_complete


def test_parts_that_never_all_came_are_a_partial_revision() -> None:
    large = trace_of(checkout_trace(3, spans=40))
    parts = [(part, b"") for part in _parts(large, 3000)]
    assert len(parts) > 2
    incomplete = revision_of(parts[1:])
    assert not incomplete.is_whole
    assert span_ids(folded(known_trace(large), [revision_of(parts)])) == {span.span_id for span in large.spans}
    assert folded(known_trace(large), [incomplete]) is None
    assert span_ids(folded(None, [incomplete])) == {span.span_id for part, _ in parts[1:] for span in part.spans}


def test_what_a_replay_repeats_word_for_word_has_the_same_digest() -> None:
    assert whole(trace_of(SPANS)).digest == whole(trace_of(SPANS, replay_id="backfill-1")).digest
    assert whole(trace_of(SPANS)).digest != whole(trace_of(SPANS, 2)).digest


_REVISIONS = st.lists(st.sets(st.integers(0, len(SPANS) - 1), min_size=1), min_size=1, max_size=5)


@given(_REVISIONS, st.data())
def test_any_cut_into_batches_and_any_repetition_gives_the_same_trace(
    told: list[set[int]], data: st.DataObject
) -> None:
    revisions = [
        whole(trace_of([SPANS[i] for i in sorted(ids)], number, arrival_s=number))
        for number, ids in enumerate(told, start=1)
    ]
    at_once = folded(None, revisions)
    assert at_once is not None
    state = None
    cut = data.draw(st.integers(0, len(revisions)))
    for batch in (revisions[:cut], revisions[cut:], revisions[: data.draw(st.integers(0, len(revisions)))], revisions):
        if batch:
            result = folded(known_trace(state) if state else None, batch)
            state = result.trace if result else state
    assert state == at_once.trace
    assert {span.span_id for span in state.spans} >= {SPANS[i].span_id for ids in told for i in ids}


def _parts(trace: ClosedTrace, max_bytes: int) -> list[ClosedTrace]:
    from tracecore.wire import decode_trace

    return [decode_trace(record) for record in encode_trace(trace, max_bytes)]
