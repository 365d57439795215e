"""Answers are remembered, shared, asked for side by side; a failure is not remembered."""

import threading

import pytest

from dashboard.answers import Answers
from dashboard.database import HistoryUnavailable
from dashboard.queries.query import Query, Row, query

ONE, OTHER = query("SELECT 1 WHERE %(end)s", end=5), query("SELECT 2")


class Counting:
    """A history that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.is_away = False
        self.together = threading.Barrier(2, timeout=10)

    def rows(self, query: Query) -> list[Row]:
        self.asked.append(query)
        if self.is_away:
            raise HistoryUnavailable("The database does not answer.", "Start it.")
        return [{"sql": query.sql}]


def test_a_question_is_asked_once() -> None:
    history = Counting()
    answers = Answers(history, 2)
    assert answers.rows(ONE, OTHER, ONE) == [[{"sql": ONE.sql}], [{"sql": OTHER.sql}], [{"sql": ONE.sql}]]
    assert answers.rows(ONE) == [[{"sql": ONE.sql}]]
    assert sorted(asked.sql for asked in history.asked) == [ONE.sql, OTHER.sql]


def test_questions_are_asked_at_the_same_time() -> None:
    class Meeting(Counting):
        def rows(self, query: Query) -> list[Row]:
            self.together.wait()  # breaks if the other question is not being asked meanwhile
            return super().rows(query)

    assert len(Answers(Meeting(), 2).rows(ONE, OTHER)) == 2


def test_after_a_failure_it_is_asked_again() -> None:
    history = Counting()
    answers = Answers(history, 1)
    history.is_away = True
    with pytest.raises(HistoryUnavailable):
        answers.rows(ONE)
    history.is_away = False
    assert answers.rows(ONE) == [[{"sql": ONE.sql}]]


def test_only_a_question_with_a_range_is_remembered_for_long() -> None:
    assert ONE.is_of_a_range
    assert not OTHER.is_of_a_range
