"""What a subscriber has seen, what it is to see next, and what it is told when something is lost. No I/O.

A subscription is behind or level with its feed. Behind, it is served step by step, from Kafka where the ring does not
reach back and then from the ring, at its own pace; level, whoever publishes an event hands it out at once. Everything
before ``offsets`` was delivered or filtered out and nothing after it was: that makes a resume exact.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from live_api.cursor import Cursor
from live_api.feed import Event, Feed
from live_api.messages import Gap, event_message, gap_message

SubjectT = TypeVar("SubjectT")
SubjectC = TypeVar("SubjectC", contravariant=True)

#: Events of one step: enough to be quick, few enough that others get their turn.
STEP_EVENTS = 256


class Filter(Protocol[SubjectC]):
    """Decides whether a subscriber sees an event."""

    def matches(self, subject: SubjectC, /) -> bool:
        """True if it does."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Read these offsets of the topic: partition to (from, up to but not including)."""

    ranges: dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Send:
    """Send these messages, then ask again."""

    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Level:
    """Nothing is missing: from here on, hand out what is published."""


Step = ReadHistory | Send | Level


def unknown_cursor(cursor: str) -> Gap:
    """The gap of a subscriber that resumes from a place which the topic never had; it goes on at ``cursor``."""
    detail = "the cursor lies beyond the end of the topic, which was made anew since; what was missed cannot be told"
    return Gap(cursor, "unknown_cursor", None, detail)


class Subscription(Generic[SubjectT]):
    """One subscriber's place in a feed."""

    __slots__ = ("_feed", "_filter", "_sequence", "event_type", "offsets")

    def __init__(
        self, feed: Feed[SubjectT], event_type: str, asked: Filter[SubjectT], offsets: Sequence[int] | None = None
    ) -> None:
        """``offsets`` None begins at the feed's end. The feed must know the offsets (``Feed.knows``)."""
        self._feed = feed
        self._filter = asked
        self.event_type = event_type
        if offsets is None:
            self.skip_to_end()
        else:
            self.offsets = [*offsets, *[0] * (len(feed.next_offsets) - len(offsets))]
            self._sequence = 0

    @property
    def cursor(self) -> str:
        """Where the subscriber stands."""
        return str(Cursor(self._feed.name, tuple(self.offsets)))

    @property
    def is_level(self) -> bool:
        """True if nothing was published since it fell behind."""
        return self._sequence == self._feed.sequence

    def step(self) -> Step:
        """What is to be done next for a subscriber that is behind."""
        self.offsets += [0] * (len(self._feed.next_offsets) - len(self.offsets))
        if not self._feed.knows(self.offsets):
            return Send([gap_message(self._in_another_log())])
        missing = self._feed.missing(self.offsets)
        if missing:
            return ReadHistory({p: (self.offsets[p], floor) for p, floor in missing.items()})
        events = self._feed.since(self._sequence, STEP_EVENTS)
        if not events:
            return Level()
        self._sequence = max(self._sequence, self._feed.first_sequence) + len(events)
        return Send(self._messages(events))

    def read(self, events: Iterable[Event[SubjectT]], positions: dict[int, int]) -> list[bytes]:
        """Messages for events that were read from Kafka; ``positions`` is how far each partition was read."""
        messages = self._messages(events)
        for partition, offset in positions.items():
            self.offsets[partition] = max(self.offsets[partition], offset)
        return messages

    def expired(self, begins: dict[int, int]) -> Gap | None:
        """Kafka no longer holds a partition before ``begins``: go on from there. The gap, if anything was lost."""
        lost = 0
        for partition, begin in begins.items():
            lost += max(0, begin - self.offsets[partition])
            self.offsets[partition] = max(self.offsets[partition], begin)
        if not lost:
            return None
        detail = (
            "events after the cursor are older than Kafka's retention and gone; what follows is what is still there"
        )
        return Gap(self.cursor, "expired", lost, detail)

    def fell_behind(self, sequence: int, offsets: Sequence[int]) -> None:
        """The subscriber stood level with the feed there, and could not take what came next."""
        self._sequence = sequence
        self.offsets = list(offsets)

    def slow(self) -> Gap:
        """What a subscriber is told who fell behind and is now served what it missed."""
        return Gap(self.cursor, "slow", 0, "you read more slowly than events come; what you missed follows")

    def skipped(self) -> Gap:
        """Begin at the feed's end for the sake of freshness, and tell what was passed over."""
        passed = self._feed.sequence - self._sequence
        events = self._feed.since(self._sequence, passed)
        lost = sum(self._filter.matches(event.subject) for event in events) if len(events) == passed else None
        self.skip_to_end()
        return Gap(self.cursor, "slow", lost, "you read more slowly than traces close; some were left out")

    def skip_to_end(self) -> None:
        """Begin at the feed's end."""
        self._sequence = self._feed.sequence
        self.offsets = list(self._feed.next_offsets)

    def _messages(self, events: Iterable[Event[SubjectT]]) -> list[bytes]:
        messages = []
        for event in events:
            if event.offset < self.offsets[event.partition]:
                continue
            self.offsets[event.partition] = event.offset + 1
            if self._filter.matches(event.subject):
                messages.append(event_message(self.event_type, self.cursor, event.body))
        return messages

    def _in_another_log(self) -> Gap:
        """The topic was made anew while the subscriber was behind: go on with what the new log has."""
        for partition, end in enumerate(self._feed.next_offsets):
            if self.offsets[partition] > end:
                self.offsets[partition] = self._feed.floor[partition]
        self._sequence = 0
        return unknown_cursor(self.cursor)
