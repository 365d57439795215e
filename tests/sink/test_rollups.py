"""Windows, minutes and hours."""

from hypothesis import given
from hypothesis import strategies as st

from sink.rollups import ROLLUPS, WindowSums, differences, newest_parts
from tests.sink.builders import NOON_NS
from tracecore.window import WINDOW_NS, OperationWindow, Window, merged_operation

_BUCKETS = st.dictionaries(st.integers(0, 5), st.integers(1, 9), max_size=4)


@st.composite
def windows(draw: st.DrawFn) -> OperationWindow:
    spans = draw(st.integers(1, 4))
    return OperationWindow(
        NOON_NS + draw(st.integers(0, 12)) * WINDOW_NS,
        draw(st.sampled_from(("a", "b"))),
        "op",
        2,
        draw(st.integers(0, 1)),
        spans,
        spans * 1000,
        draw(st.integers(0, spans)) * 1000,
        draw(_BUCKETS),
        draw(_BUCKETS),
    )


@given(st.lists(st.lists(windows(), max_size=6), max_size=5))
def test_rollups_are_the_sum_of_the_newest_parts_however_they_came(batches: list[list[OperationWindow]]) -> None:
    stored: dict[object, Window] = {}
    totals: dict[str, dict[object, WindowSums]] = {table: {} for table in ROLLUPS}
    for batch in [*batches, *batches]:
        new = newest_parts(batch)
        new = {k: w for k, w in new.items() if k not in stored or w.spans >= stored[k].spans}
        old = {key: stored[key] for key in new if key in stored}
        for table, changes in differences(new, old).items():
            for key, change in changes.items():
                totals[table].setdefault(key, WindowSums()).merge(change)
        stored.update(new)
    for table, length_ns in ROLLUPS.items():
        for (start_ns, series), sums in totals[table].items():
            parts = [
                window
                for window in stored.values()
                if isinstance(window, OperationWindow)
                and window.key == series
                and window.start_ns - window.start_ns % length_ns == start_ns
            ]
            whole = merged_operation(parts)
            assert (sums.spans, sums.count_milli) == (whole.spans, whole.count_milli)
            assert (sums.error_milli, sums.duration) == (whole.error_milli, whole.duration)
            assert sums.other == whole.self_time


def test_a_part_that_was_read_again_in_part_replaces_nothing() -> None:
    full = OperationWindow(NOON_NS, "a", "op", 2, 0, 5, 5000, 0, {1: 5}, {1: 5})
    part = OperationWindow(NOON_NS, "a", "op", 2, 0, 3, 3000, 0, {1: 3}, {1: 3})
    assert list(newest_parts([full, part]).values()) == [full]
    assert list(newest_parts([part, full]).values()) == [full]
