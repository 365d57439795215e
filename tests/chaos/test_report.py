"""A run that was not good says what is missing, and what went wrong around it."""

from collections import Counter

from tests.chaos import report
from tests.chaos.books import AlertBalance, Books, Line, StoredTrace, balance
from tests.chaos.leaks import Bounds
from tests.chaos.outcome import Outcome, RunPlan
from tests.chaos.sampling import Samples
from tests.chaos.schedule import Fault
from tests.chaos.traffic import SPANS, trace_id_of

SUMS = ("rows", "operation_windows", "operation_minutes", "operation_hours", "error rows", "error_group_minutes")
FAULT = Fault(100.0, "kill", "sink-1", 2.0)


def outcome(numbers: range) -> Outcome:
    """Ten traces were acknowledged at 105 s; ``numbers`` of them are there."""
    books = Books(began_unix_s=0.0, ended_at_s=200.0, sent={"gateway": 10}, poison={0: 1.0})
    books.acknowledged["gateway"] = [Line("acknowledged", "gateway", 0, 10, 105.0)]
    stored = [StoredTrace(trace_id_of("gateway", number), SPANS, SPANS, SPANS) for number in numbers]
    return Outcome(
        plan=RunPlan(7, 200.0, 2000.0, [FAULT, Fault(10.0, "kill", "broker", 2.0)], [], bounds=Bounds()),
        books=books,
        balance=balance(books, stored),
        alerts=AlertBalance(),
        dead_letters=Counter({0: 1}),
        other_letters=0,
        totals=dict.fromkeys((*SUMS, "calls in traces", "service_dependencies"), len(stored)),
        window_differences=[],
        deaths=[],
        faults_done=2,
        fault_failures=[],
        samples=Samples(),
        held={"topics": (11, 11)},
        settled_after_s=3.0,
    )


def test_a_good_run_says_so() -> None:
    assert report.problems(outcome(range(10))) == []
    assert list(report.lines(outcome(range(10))))[-1] == "good"


def test_what_is_lost_is_told_with_its_trace_and_the_faults_near_it() -> None:
    said = list(report.lines(outcome(range(9))))
    at = next(number for number, line in enumerate(said) if line.startswith("lost:"))
    assert trace_id_of("gateway", 9).hex() in said[at]
    assert "gateway number 9" in said[at]
    assert said[at + 1].strip() == str(FAULT).strip()
    assert "kill broker" not in said[at + 2]
    assert said[-1] == "failed"


def test_spans_that_were_sent_twice_may_count_twice_in_windows_but_none_may_be_missing_there() -> None:
    few, many = outcome(range(10)), outcome(range(10))
    few.totals["rows"] = many.totals["rows"] = 1000
    for name in ("operation_windows", "operation_minutes", "operation_hours"):
        few.totals[name], many.totals[name] = 1010, 1030
    assert report.problems(few) == []
    assert len(report.problems(many)) == 3


def test_what_else_is_wrong_is_told_in_words() -> None:
    bad = outcome(range(10))
    bad.dead_letters.clear()
    bad.totals["operation_minutes"] -= 3
    bad.held["topics"] = (11, 12)
    bad.alerts.wrong.append("incident-3: 2 alerts instead of one")
    bad.books.ended_at_s = None
    problems = "\n".join(report.problems(bad))
    for words in ("poison records", "operation_minutes", "topics", "incident-3", "the load did not end"):
        assert words in problems
