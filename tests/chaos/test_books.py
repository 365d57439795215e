"""The books find what is lost and what is double, and say so."""

from collections.abc import Iterable

import msgspec

from tests.chaos.books import AlertEvent, Books, Line, StoredTrace, alert_balance, balance, read_books
from tests.chaos.poison import KINDS, MARK, number_of, poison
from tests.chaos.traffic import ENTRANCES, SPANS, Trace, otlp_request, told_by, trace_id_of
from tracecore.otlp import decode_spans
from tracecore.topics import Topics


def books_of(*lines: Line) -> Books:
    return read_books(msgspec.json.encode(line).decode() + "\n" for line in lines)


def stored(entrance: str, numbers: Iterable[int], rows: int = SPANS) -> list[StoredTrace]:
    return [StoredTrace(trace_id_of(entrance, number), rows, min(rows, SPANS), rows) for number in numbers]


SENT = (Line("sending", "sdk", 0, 10), Line("acknowledged", "sdk", 0, 8, 1.0), Line("in doubt", "sdk", 8, 10, 2.0))


def test_what_was_acknowledged_and_is_there_once_is_well() -> None:
    found = balance(books_of(*SENT), stored("sdk", range(10)))
    assert (found.acknowledged_spans, found.found_spans, found.in_doubt_spans) == (80, 100, 20)
    assert not (found.lost or found.doubled_spans or found.miscounted or found.foreign)


def test_a_trace_that_is_missing_and_one_that_is_there_in_part_are_lost() -> None:
    found = balance(books_of(*SENT), [*stored("sdk", range(6)), *stored("sdk", [7], rows=4)])
    assert [(told_by(lost.trace_id), lost.rows) for lost in found.lost] == [(("sdk", 7), 4), (("sdk", 6), 0)]
    assert found.lost_spans == 16
    assert found.lost[0].acknowledged_at_s == 1.0


def test_what_is_in_doubt_may_be_missing_but_not_double() -> None:
    found = balance(books_of(*SENT), [*stored("sdk", range(8)), *stored("sdk", [9], rows=12)])
    assert not found.lost
    assert found.doubled_spans == 2


def test_a_summary_that_counts_other_than_there_are_rows_is_told() -> None:
    rows = stored("sdk", range(8))
    rows[3] = StoredTrace(rows[3].trace_id, SPANS, SPANS, SPANS - 1)
    assert balance(books_of(*SENT), rows).miscounted == [rows[3].trace_id]


def test_traces_that_nobody_sent_are_foreign() -> None:
    strange = StoredTrace(b"\1" * 16, 1, 1, 1)
    never_sent = stored("gateway", [0])
    known = StoredTrace(b"\2" * 16, 1, 1, 1)
    found = balance(books_of(*SENT), [*stored("sdk", range(8)), strange, *never_sent, known], [b"\2\2"])
    assert found.foreign == [strange.trace_id, never_sent[0].trace_id]


def test_a_line_that_was_cut_off_is_left_out() -> None:
    assert read_books(['{"what":"sending","entrance":"sdk","until":5}\n', '{"what":"ackno']).sent == {"sdk": 5}


def test_trace_ids_tell_entrance_and_number() -> None:
    numbers = (0, 1, 4_000_000)
    for entrance in ENTRANCES:
        assert [told_by(trace_id_of(entrance, number)) for number in numbers] == [(entrance, n) for n in numbers]
    assert told_by(b"\0" * 16) is None


def test_traffic_is_valid_and_only_the_incident_fails() -> None:
    trace = Trace("gateway", 3, 10**18, failing="incident-0")
    spans, rejected = decode_spans(otlp_request([(trace, place) for place in range(SPANS)]))
    assert not rejected
    assert [span.name for span in spans if span.is_error] == ["incident-0"]
    assert len({span.span_id for span in spans}) == SPANS
    assert {span.parent_span_id for span in spans} <= {b"", *(span.span_id for span in spans)}


def test_every_poison_record_is_found_by_its_number() -> None:
    for number in range(2 * len(KINDS)):
        assert number_of(poison(number, Topics(), 10**18).value) == number
    assert number_of(MARK % 12345678) == 12345678
    assert number_of(b"ordinary") is None


def event(status: str, starts_at_ns: int = 1, operation: str = "incident-0") -> AlertEvent:
    return AlertEvent("f", starts_at_ns, status, "ErrorSpans", "sdk-payment", operation)


LIFE = [event("firing"), event("resolved")]
ROWS = {("f", 1): "resolved"}


def test_an_alert_that_fired_and_was_resolved_once_everywhere_is_well() -> None:
    found = alert_balance({"incident-0"}, LIFE, ROWS, LIFE)
    assert (found.episodes, found.incidents, found.wrong) == (1, 1, [])


def test_alerts_that_never_end_or_are_told_twice_or_not_at_all_are_wrong() -> None:
    assert alert_balance({"incident-0"}, LIFE[:1], {("f", 1): "firing"}, LIFE[:1]).wrong
    assert alert_balance({"incident-0"}, [*LIFE, LIFE[1]], ROWS, [*LIFE, LIFE[1]]).wrong
    assert alert_balance({"incident-0"}, LIFE, ROWS, LIFE[1:]).wrong
    assert alert_balance({"incident-0"}, LIFE, {}, LIFE).wrong
    assert alert_balance({"incident-0", "incident-1"}, LIFE, ROWS, LIFE).wrong
    again = [*LIFE, event("firing", 2), event("resolved", 2)]
    assert alert_balance({"incident-0"}, again, ROWS | {("f", 2): "resolved"}, again).wrong
