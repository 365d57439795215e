"""When traces close, what amends them, and that nothing is lost for want of memory. Arrival is in seconds here."""

from collections.abc import Sequence

import pytest

from stream.assembler import Arrived, Assembler, Limits, Revision, SpanBudget
from tests.tracecore.builders import span
from tracecore.span import Span, SpanKind

SECOND = 1_000_000_000
LIMITS = Limits(settle_ns=2 * SECOND, idle_ns=10 * SECOND, max_age_ns=60 * SECOND, max_spans=100, amend_ns=30 * SECOND)


class Arriving:
    """An assembler to which records come one after the other."""

    def __init__(self, memory_spans: int = 1000) -> None:
        self.budget = SpanBudget(memory_spans)
        self.assembler = Assembler(LIMITS, self.budget)
        self.offset = 0

    def come(self, at_s: float, *spans: Span) -> list[Revision]:
        revisions = self.assembler.add([Arrived(spans, self.offset, round(at_s * SECOND))])
        self.offset += 1
        return revisions

    def pass_to(self, at_s: float) -> list[Revision]:
        return self.assembler.advance(round(at_s * SECOND))


def told(revisions: Sequence[Revision]) -> list[tuple[int, str, int]]:
    """Trace by its number, reason, how many spans."""
    return [(int.from_bytes(r.trace_id, "big"), r.reason, len(r.spans)) for r in revisions]


def test_a_trace_closes_two_seconds_after_its_last_span_once_its_root_is_there() -> None:
    root = span(id=1)
    traffic = Arriving()
    assert traffic.come(1, root) == []
    assert traffic.come(2.5, span(parent=root)) == []
    assert traffic.pass_to(4.4) == []
    assert told(traffic.pass_to(4.5)) == [(1, "complete", 2)]


def test_a_trace_without_a_root_waits_for_ten_seconds() -> None:
    traffic = Arriving()
    traffic.come(1, span(parent=99))
    assert traffic.pass_to(10.9) == []
    assert told(traffic.pass_to(11)) == [(1, "idle", 1)]


def test_a_root_that_comes_last_shortens_the_wait() -> None:
    root = span(id=1)
    traffic = Arriving()
    traffic.come(1, span(parent=root))
    traffic.come(5, root)
    assert told(traffic.pass_to(7)) == [(1, "complete", 2)]


def test_a_trace_that_never_becomes_quiet_closes_at_its_age() -> None:
    root = span(id=1)
    traffic = Arriving()
    closed: list[Revision] = []
    for second in range(80):
        closed += traffic.come(second, root if second == 0 else span(parent=root))
    assert told(closed) == [(1, "max_age", 60)]


def test_a_trace_of_more_spans_than_are_held_is_closed_and_goes_on_as_another_revision() -> None:
    root = span(id=1)
    traffic = Arriving()
    closed = traffic.come(1, root, *(span(parent=root) for _ in range(150)))
    assert told(closed) == [(1, "max_spans", 100)]
    assert told(traffic.pass_to(20)) == [(1, "idle", 51)]


def test_a_late_span_amends_the_trace_it_belongs_to_with_all_of_its_spans() -> None:
    root, late = span(id=1), span(id=2, parent=1)
    traffic = Arriving()
    traffic.come(1, root)
    (first,) = traffic.pass_to(3)
    traffic.come(20, late)
    (second,) = traffic.pass_to(22)
    assert (first.revision, second.revision) == (1, 2)
    assert (second.reason, list(second.spans), second.counted) == ("late", [root, late], 1)
    assert second.first_offset == 1
    assert traffic.assembler.counts.late_spans == 1


def test_a_span_that_comes_after_the_trace_was_forgotten_is_a_trace_of_its_own() -> None:
    traffic = Arriving()
    traffic.come(1, span(id=1))
    traffic.pass_to(3)
    assert traffic.pass_to(33.1) == []
    traffic.come(34, span(id=2, parent=1))
    assert told(traffic.pass_to(44)) == [(1, "idle", 1)]


def test_a_duplicate_neither_counts_nor_reopens_nor_delays() -> None:
    root = span(id=1)
    traffic = Arriving()
    traffic.come(1, root)
    traffic.come(2, root)
    (closed,) = traffic.pass_to(3)
    assert (len(closed.spans), closed.duplicate_count) == (1, 1)
    traffic.come(4, root)
    assert traffic.pass_to(20) == []
    assert traffic.assembler.counts.duplicates == 2


@pytest.mark.parametrize("first_is_longer", [True, False])
def test_of_spans_with_one_id_the_one_that_ends_last_is_kept(first_is_longer: bool) -> None:
    short, long = span(id=1, duration_ms=1), span(id=1, duration_ms=2)
    traffic = Arriving()
    traffic.come(1, *((long, short) if first_is_longer else (short, long)))
    (closed,) = traffic.pass_to(5)
    assert list(closed.spans) == [long]


def test_client_and_server_that_share_an_id_are_two_spans() -> None:
    client, server = span(id=1, kind=SpanKind.CLIENT), span(id=1, kind=SpanKind.SERVER)
    traffic = Arriving()
    traffic.come(1, client, server)
    assert told(traffic.pass_to(5)) == [(1, "complete", 2)]


def test_an_arrival_that_goes_backwards_does_not_move_the_watermark() -> None:
    traffic = Arriving()
    traffic.come(100, span(trace=1))
    traffic.come(99.5, span(trace=2))
    assert traffic.assembler.now_ns == 100 * SECOND
    assert told(traffic.pass_to(101.6)) == [(2, "complete", 1)]


def test_the_first_offset_is_that_of_the_oldest_trace_still_open() -> None:
    traffic = Arriving()
    traffic.come(1, span(trace=1))
    traffic.come(2, span(trace=2, parent=9))
    traffic.come(2.5, span(trace=3))
    assert traffic.assembler.first_offset == 0
    traffic.pass_to(3)
    assert traffic.assembler.first_offset == 1
    traffic.pass_to(60)
    assert traffic.assembler.first_offset is None


def test_memory_is_bounded_by_forgetting_first_and_then_by_closing_early_and_nothing_is_lost() -> None:
    traffic = Arriving(memory_spans=10)
    traffic.come(1, *(span(trace=1, parent=99) for _ in range(4)))
    traffic.come(1, *(span(trace=2) for _ in range(4)))
    assert told(traffic.pass_to(4)) == [(2, "complete", 4)]
    # The closed trace is forgotten: that is room enough.
    assert traffic.come(4, *(span(trace=3, parent=99) for _ in range(5))) == []
    assert traffic.assembler.counts.forgotten_early == 1
    # The oldest open one is let go.
    closed = traffic.come(5, *(span(trace=4, parent=99) for _ in range(3)))
    assert told(closed) == [(1, "max_spans", 4)]
    assert [revision.shed for revision in closed] == [True]
    assert traffic.assembler.counts.shed_traces == 1
    assert traffic.budget.held == 8


def test_a_trace_that_stays_open_for_an_hour_is_published_every_minute_and_whole_in_the_end() -> None:
    assembler = Assembler(
        Limits(2 * SECOND, 10 * SECOND, 60 * SECOND, max_spans=50_000, amend_ns=60 * SECOND), SpanBudget(100_000)
    )
    revisions = [
        revision
        for second in range(1, 3601)
        for revision in assembler.add([Arrived([span(id=second, parent=second - 1)], second, second * SECOND)])
    ]
    assert [len(revision.spans) for revision in revisions] == list(range(60, 3600, 60))
    assert [revision.reason for revision in revisions] == ["max_age", *["late"] * (len(revisions) - 1)]
    assert [len(revision.spans) for revision in assembler.advance(3603 * SECOND)] == [3600]


def test_an_hour_of_spans_for_one_trace_does_not_exceed_the_memory_and_each_is_published() -> None:
    traffic = Arriving(memory_spans=50)
    published: set[bytes] = set()
    most = shed = 0
    for second in range(1, 3601):
        for revision in traffic.come(second, span(id=second, parent=second - 1)):
            published |= {one.span_id for one in revision.spans}
            shed += revision.shed
        most = max(most, traffic.budget.held)
    published |= {one.span_id for revision in traffic.pass_to(3700) for one in revision.spans}
    assert most <= 50
    assert shed == traffic.assembler.counts.shed_traces > 0
    assert published == {second.to_bytes(8) for second in range(1, 3601)}


def test_an_assembler_that_is_given_up_gives_its_memory_back() -> None:
    traffic = Arriving()
    traffic.come(1, span(trace=1))
    traffic.pass_to(3)
    traffic.come(4, span(trace=2))
    assert traffic.budget.held == 2
    traffic.assembler.drop()
    assert traffic.budget.held == 0


def test_a_trace_of_twenty_thousand_spans_is_one_trace() -> None:
    assembler = Assembler(
        Limits(2 * SECOND, 10 * SECOND, 60 * SECOND, max_spans=50_000, amend_ns=0), SpanBudget(100_000)
    )
    root = span(id=1)
    rest = (root._replace(span_id=i.to_bytes(8, "big"), parent_span_id=root.span_id) for i in range(2, 20_001))
    assembler.add([Arrived([root, *rest], 0, SECOND)])
    assert told(assembler.advance(10 * SECOND)) == [(1, "complete", 20_000)]
