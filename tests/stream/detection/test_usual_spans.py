"""Compiled code learns of usual traces what plain Python learns, and leaves it those that may be slow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import compiled
from stream.detection import answered_calls, slow_spans
from stream.detection.answered_calls import AnsweredCalls
from stream.detection.slow_spans import SlowSpans, SlowSpanSettings
from tests.tracecore.gathered import analysed
from tests.tracecore.strategies import shop_traces, tidy_traces
from tracecore.span import Span

#: So low that among a few traces there are slow ones.
SETTINGS = [
    SlowSpanSettings(min_count=1, min_score=0.5, min_ratio=1.1, floor_ns=1),
    SlowSpanSettings(min_count=2, min_score=6, min_ratio=3, floor_ns=20),
    SlowSpanSettings(min_count=0, min_score=-1, min_ratio=-1, floor_ns=0),
]


@pytest.fixture(autouse=True)
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.warm_up()
    monkeypatch.setattr("stream.detection.runs.MIN_SPANS", 0)
    monkeypatch.setattr(slow_spans, "MIN_SPANS_A_SERIES", 0)


def state(judge: SlowSpans) -> tuple[object, ...]:
    """All that a judge remembers."""
    baselines = judge._baselines
    return baselines.young, baselines._old, judge._slow_shares, judge._slow_parts


@given(tidy_traces() | shop_traces(), st.sampled_from(SETTINGS), st.sampled_from([1, 2]), st.sampled_from([50_000, 6]))
def test_traces_judged_together_are_as_judged_one_by_one(
    traces: list[list[Span]], settings: SlowSpanSettings, revision: int, room: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slow_spans, "MAX_SERIES", room)
        together, one_by_one = SlowSpans(lambda service: settings), SlowSpans(lambda service: settings)
    for closed in (analysed(traces), analysed(traces[::-1]), analysed(traces[:2], revision), analysed(traces * 3)):
        judged = [one_by_one.on_trace(trace) for trace in closed]
        expected = {place: findings for place, findings in enumerate(judged) if findings}
        assert together.on_traces(closed) == expected
        assert state(together) == state(one_by_one)


@given(tidy_traces() | shop_traces(), st.sampled_from([50_000, 1]))
def test_answers_learned_together_are_as_learned_one_by_one(traces: list[list[Span]], room: int) -> None:
    together, one_by_one = AnsweredCalls(), AnsweredCalls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answered_calls, "MAX_OPERATIONS", room)
        for closed in (analysed(traces), analysed(traces[::-1], revision=2)):
            together.learn_all(closed)
            for trace in closed:
                one_by_one.learn(trace)
            assert together._answered == one_by_one._answered
