"""A subscriber's place in a feed, whatever the ring has dropped and wherever it was cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_api.cursor import Cursor, parse_cursor
from live_api.errors import InvalidParameter
from live_api.feed import Event, Feed
from live_api.filters import AlertFilter
from live_api.subscription import Level, ReadHistory, Send, Subscription
from tests.live_api.builders import alert
from tracecore.alert import Alert

PARTITIONS = 3


class Log:
    """A topic: what every partition holds, and the order in which this process read it."""

    def __init__(self, max_events: int, base: int = 0) -> None:
        self.feed: Feed[Alert] = Feed("traces", [base] * PARTITIONS, max_events, 10**9)
        self.partitions: list[list[Event[Alert]]] = [[] for _ in range(PARTITIONS)]
        self.base = base

    def append(self, partition: int) -> None:
        offset = self.base + len(self.partitions[partition])
        event = Event(partition, offset, alert("a"), b'"%d-%d"' % (partition, offset))
        self.partitions[partition].append(event)
        self.feed.append(event)

    def read(self, ranges: dict[int, tuple[int, int]], limit: int) -> tuple[list[Event[Alert]], dict[int, int]]:
        partition, (begin, end) = next(iter(ranges.items()))
        events = self.partitions[partition][begin - self.base : end - self.base][:limit]
        return events, {partition: events[-1].offset + 1}

    def everything(self) -> set[str]:
        return {event.body.decode().strip('"') for events in self.partitions for event in events}


def follow(log: Log, subscription: Subscription[Alert], patience: int) -> list[dict[str, str]]:
    """Messages until the subscription is level, or ``patience`` of them were seen and the connection is cut."""
    seen: list[dict[str, str]] = []
    while not isinstance(step := subscription.step(), Level):
        if isinstance(step, ReadHistory):
            messages = subscription.read(*log.read(step.ranges, 4))
        else:
            assert isinstance(step, Send)
            messages = step.messages
        for message in messages:
            seen.append(json.loads(message))
            if len(seen) >= patience:
                return seen
    return seen


def resumed(log: Log, cursor: str) -> Subscription[Alert]:
    return Subscription(log.feed, "trace", AlertFilter(), parse_cursor(cursor, "traces").offsets)


@given(
    st.lists(st.integers(0, PARTITIONS - 1), max_size=60),
    st.integers(1, 70),
    st.lists(st.integers(1, 12), max_size=8),
    st.randoms(use_true_random=False),
)
def test_every_event_is_seen_once_however_often_one_is_cut(arrivals, max_events, cuts, random) -> None:  # type: ignore[no-untyped-def]
    """The same cursor is taken from process to process, each of which read the partitions in another order."""
    cursor = str(Cursor("traces", (0,) * PARTITIONS))
    seen: list[str] = []
    for patience in [*cuts, 10**6]:
        log = Log(max_events)
        shuffled = list(arrivals)
        random.shuffle(shuffled)
        for partition in shuffled:
            log.append(partition)
        for message in follow(log, resumed(log, cursor), patience):
            seen.append(message["trace"])
            cursor = message["cursor"]
    assert len(seen) == len(set(seen))
    assert set(seen) == log.everything()
    for partition in range(PARTITIONS):
        offsets = [int(body.split("-")[1]) for body in seen if body.startswith(f"{partition}-")]
        assert offsets == sorted(offsets)


def test_subscriber_that_fell_behind_sees_what_came_meanwhile() -> None:
    log = Log(max_events=5)
    log.append(0)
    subscription = Subscription(log.feed, "trace", AlertFilter())
    assert isinstance(subscription.step(), Level)
    place = log.feed.sequence, list(log.feed.next_offsets)
    for _ in range(20):
        log.append(0)
        log.append(2)
    subscription.fell_behind(*place)
    assert json.loads(subscription.slow().cursor.join('""')) == "t1-1.0.0"
    assert {message["trace"] for message in follow(log, subscription, 100)} == log.everything() - {"0-0"}
    assert subscription.cursor == str(log.feed.cursor)


def test_one_who_skips_is_told_how_many_events_that_it_asked_for_were_left_out() -> None:
    log = Log(max_events=100)
    subscription = Subscription(log.feed, "trace", AlertFilter(services=frozenset("a")))
    place = log.feed.sequence, list(log.feed.next_offsets)
    for number in range(10):
        log.feed.append(Event(0, number, alert("ab"[number % 2]), b"1"))
    subscription.fell_behind(*place)
    gap = subscription.skipped()
    assert (gap.reason, gap.lost, gap.cursor) == ("slow", 5, str(log.feed.cursor))
    assert isinstance(subscription.step(), Level)


def test_what_retention_deleted_is_a_gap() -> None:
    log = Log(max_events=2, base=50)
    for _ in range(9):
        log.append(1)
    subscription = resumed(log, str(Cursor("traces", (50, 20, 50))))
    step = subscription.step()
    assert isinstance(step, ReadHistory) and step.ranges == {1: (20, 57)}
    gap = subscription.expired({1: 50})
    assert gap is not None and (gap.reason, gap.lost) == ("expired", 30)
    assert subscription.expired({1: 50}) is None
    assert len(follow(log, subscription, 100)) == 9


def test_topic_made_anew_is_a_gap_for_one_who_is_behind() -> None:
    log = Log(max_events=10)
    for _ in range(5):
        log.append(0)
    subscription = resumed(log, "t1-5.0.0")
    log.feed.rewound(0, 0)
    assert log.feed.held == 0
    log.partitions[0].clear()
    log.append(0)
    gap, event = follow(log, subscription, 100)
    assert (gap["type"], gap["reason"]) == ("gap", "unknown_cursor")
    assert event["trace"] == "0-0"


def test_new_partition_is_read_from_its_beginning() -> None:
    log = Log(max_events=10)
    subscription = resumed(log, "t1-0.0.0")
    log.feed.grown(4)
    log.feed.append(Event(3, 0, alert("a"), b'"3-0"'))
    assert [message["trace"] for message in follow(log, subscription, 100)] == ["3-0"]
    assert subscription.cursor == "t1-0.0.0.1"


def test_ring_is_bounded_in_bytes_too() -> None:
    feed: Feed[Alert] = Feed("alerts", [0], 1000, 100)
    for offset in range(50):
        feed.append(Event(0, offset, alert("a"), b"x" * 30))
    assert (feed.held, feed.bytes_held, feed.floor) == (3, 90, [47])


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=40))
def test_cursor_reads_as_it_was_written(offsets: list[int]) -> None:
    cursor = Cursor("alerts", tuple(offsets))
    assert parse_cursor(str(cursor), "alerts") == cursor


@given(st.text(max_size=40) | st.from_regex(r"a1-[0-9a-fA-F.+_ -]{0,40}"))
def test_anything_else_is_no_cursor(text: str) -> None:
    try:
        assert str(parse_cursor(text, "alerts")) == text
    except InvalidParameter as error:
        assert error.parameter == "after"


@pytest.mark.parametrize("text", ["", "a1", "a1-", "a1-g", "a1-00", "a1--1", "a1-1.", "t1-1", "a2-1", "a1-" + "f" * 17])
def test_wrong_cursors(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_cursor(text, "alerts")
