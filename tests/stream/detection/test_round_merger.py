from stream.detection.round import Round, decode_round, encoded_rounds, is_round
from stream.detection.round_merger import END_NS, RoundMerger
from tracecore.window import WINDOW_NS, OperationWindow

SECOND_NS = 1_000_000_000


def operation(partition: int, spans: int = 1, start_ns: int = 0) -> OperationWindow:
    return OperationWindow(start_ns, "cart", "op", 2, partition, spans, spans * 1000, 0, {5: 1000}, {5: 1000})


def told(partition: int, end_ns: int, spans: int = 1) -> Round:
    windows = [operation(partition, spans, end_ns - WINDOW_NS)] if spans else []
    return Round(end_ns, end_ns + SECOND_NS, partition, 2, True, windows, [])


def test_window_is_whole_once_every_partition_has_passed_its_end() -> None:
    merger = RoundMerger(None)
    assert merger.add(told(0, WINDOW_NS, 2)) == []
    (window,) = merger.add(told(1, WINDOW_NS, 3))
    assert window.is_whole
    assert next(iter(window.operations.values())).spans == 5


def test_partition_that_is_read_far_ahead_waits_for_the_other() -> None:
    merger = RoundMerger(None)
    for end in range(1, 50):
        assert merger.add(told(0, end * WINDOW_NS)) == []
    assert [window.end_ns for window in merger.add(told(1, 3 * WINDOW_NS))] == [n * WINDOW_NS for n in (1, 2, 3)]


def test_dead_partition_is_not_waited_for_longer_than_patience_and_the_window_says_so() -> None:
    merger = RoundMerger(30 * SECOND_NS)
    merger.add(told(0, WINDOW_NS))
    merger.add(told(1, WINDOW_NS))
    windows = [window for end in range(2, 8) for window in merger.add(told(0, end * WINDOW_NS))]
    assert [window.end_ns // WINDOW_NS for window in windows] == [2, 3, 4]
    assert not any(window.is_whole for window in windows)


def test_round_told_twice_counts_once_and_a_late_one_not_at_all() -> None:
    merger = RoundMerger(None)
    merger.add(told(0, WINDOW_NS, 2))
    merger.add(told(0, WINDOW_NS, 2))
    (window,) = merger.add(told(1, WINDOW_NS, 1))
    assert next(iter(window.operations.values())).spans == 3
    assert merger.add(told(1, WINDOW_NS, 9)) == []
    assert merger.late_total == 1


def test_silent_windows_are_told_one_by_one_and_a_long_gap_as_one() -> None:
    merger = RoundMerger(None)
    for partition in (0, 1):
        merger.add(told(partition, WINDOW_NS))
    merger.add(told(0, 4 * WINDOW_NS))
    ends = [window.end_ns // WINDOW_NS for window in merger.add(told(1, 4 * WINDOW_NS))]
    assert ends == [2, 3, 4]
    merger.add(told(0, 100 * WINDOW_NS))
    (gap,) = merger.add(told(1, 100 * WINDOW_NS))
    assert gap.skipped == 95


def test_end_of_a_replay_makes_everything_whole() -> None:
    merger = RoundMerger(None)
    merger.add(told(0, 5 * WINDOW_NS))
    merger.add(told(0, END_NS, 0))
    assert not merger.is_over
    (window,) = merger.add(told(1, END_NS, 0))
    assert window.end_ns == 5 * WINDOW_NS
    assert merger.is_over


def test_round_that_one_record_cannot_hold_travels_in_parts() -> None:
    windows = [OperationWindow(0, "cart", f"op{n}", 2, 0, 1, 1000, 0, {5: 1000}, {5: 1000}) for n in range(100)]
    records = encoded_rounds(windows, WINDOW_NS, WINDOW_NS, 0, 1, max_record_bytes=2000)
    assert len(records) > 1
    assert all(is_round(record) and len(record) <= 2000 for record in records)
    rounds = [decode_round(record) for record in records]
    assert [round_.is_last for round_ in rounds] == [False] * (len(rounds) - 1) + [True]
    merger = RoundMerger(None)
    (window,) = [window for round_ in rounds for window in merger.add(round_)]
    assert len(window.operations) == 100
