"""Which of the rooms' figures a reader is warned of."""

import pytest

from dashboard.queries.pipeline import Figure


@pytest.mark.parametrize(
    ("figure", "value", "worries"),
    [
        (Figure("Records waiting", "tracewatch_sink_lag_records", "The history is behind."), 2, False),
        (Figure("Records waiting", "tracewatch_sink_lag_records", "The history is behind."), 1001, True),
        (Figure("Dead letters", "tracewatch_sink_dead_letters_total", "Some could not be read."), 1, True),
        (Figure("Spans stored", "tracewatch_sink_spans_total"), 5000, False),
    ],
)
def test_records_under_way_worry_nobody_and_a_lost_one_does(figure: Figure, value: float, worries: bool) -> None:
    assert figure.worries(value) is worries
