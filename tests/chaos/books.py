"""The books of the load, and how they balance with what was found at the end. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tests.chaos.traffic import FAILS_EVERY, SPANS, told_by, trace_id_of


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the books: what happened to the traces ``first`` (included) to ``until`` (not) of an entrance."""

    what: str
    entrance: str = ""
    first: int = 0
    until: int = 0
    at_s: float = 0.0
    unix_s: float = 0.0
    failing: str = ""


@dataclass(slots=True)
class Books:
    """What was sent, and what of it was acknowledged, by entrance and number."""

    began_unix_s: float = 0.0
    ended_at_s: float | None = None
    sent: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, list[Line]] = field(default_factory=dict)
    in_doubt: dict[str, list[Line]] = field(default_factory=dict)
    poison: dict[int, float] = field(default_factory=dict)
    #: Incidents of which at least one failing trace was acknowledged.
    incidents: set[str] = field(default_factory=set)

    @property
    def acknowledged_traces(self) -> int:
        """All entrances together."""
        return sum(line.until - line.first for lines in self.acknowledged.values() for line in lines)

    def acknowledged_at(self) -> dict[tuple[str, int], float]:
        """When each trace was acknowledged, in seconds of the load."""
        return {
            (name, number): line.at_s
            for name, lines in self.acknowledged.items()
            for line in lines
            for number in range(line.first, line.until)
        }


def read_books(lines: Iterable[str]) -> Books:
    """The books from their lines; a last one that was cut off is left out."""
    books = Books()
    for text in lines:
        if not text.endswith("\n"):
            continue
        line = msgspec.json.decode(text, type=Line)
        if line.what == "began":
            books.began_unix_s = line.unix_s
        elif line.what == "ended":
            books.ended_at_s = line.at_s
        elif line.what == "sending":
            books.sent[line.entrance] = line.until
        elif line.what == "poison":
            books.poison[line.first] = line.at_s
        else:
            found = books.acknowledged if line.what == "acknowledged" else books.in_doubt
            found.setdefault(line.entrance, []).append(line)
            # One in some fails, and a round may hold none of these.
            if line.failing and any(number % FAILS_EVERY == 0 for number in range(line.first, line.until)):
                books.incidents.add(line.failing)
    return books


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """What the history has of a trace: rows, different span ids among them, and what its summary counts."""

    trace_id: bytes
    rows: int
    span_ids: int
    summarized: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A trace that was acknowledged and is not there whole."""

    trace_id: bytes
    acknowledged_at_s: float
    rows: int


@dataclass(slots=True)
class Balance:
    """What is wrong, span by span; all of it empty is what is wanted."""

    acknowledged_spans: int = 0
    found_spans: int = 0
    in_doubt_spans: int = 0
    lost: list[Missing] = field(default_factory=list)
    lost_spans: int = 0
    doubled_spans: int = 0
    #: Traces whose summary counts other than there are rows.
    miscounted: list[bytes] = field(default_factory=list)
    #: Traces that nobody sent.
    foreign: list[bytes] = field(default_factory=list)


def balance(books: Books, stored: Iterable[StoredTrace], is_known: Sequence[bytes] = ()) -> Balance:
    """Hold what is stored against what was acknowledged. ``is_known`` are first bytes of ids that are no trace of ours.

    O(acknowledged traces) in memory.
    """
    awaited = books.acknowledged_at()
    found = Balance(acknowledged_spans=len(awaited) * SPANS)
    found.in_doubt_spans = SPANS * sum(x.until - x.first for lines in books.in_doubt.values() for x in lines)
    for trace in stored:
        name = told_by(trace.trace_id)
        if name is None or name[1] >= books.sent.get(name[0], 0):
            if not trace.trace_id.startswith(tuple(is_known)):
                found.foreign.append(trace.trace_id)
            continue
        found.found_spans += trace.span_ids
        found.doubled_spans += trace.rows - trace.span_ids
        if trace.summarized != trace.rows:
            found.miscounted.append(trace.trace_id)
        at_s = awaited.pop(name, None)
        if at_s is not None and trace.span_ids < SPANS:
            found.lost.append(Missing(trace.trace_id, at_s, trace.span_ids))
            found.lost_spans += SPANS - trace.span_ids
    for (entrance, number), at_s in awaited.items():
        found.lost.append(Missing(trace_id_of(entrance, number), at_s, 0))
        found.lost_spans += SPANS
    return found


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An event as the topic or the live feed tells it."""

    fingerprint: str
    starts_at_ns: int
    status: str
    alertname: str
    service: str
    operation: str
    #: Of repeats of "firing" while an alert lasts, which.
    updated_at_ns: int = 0

    @property
    def episode(self) -> tuple[str, int]:
        """Which episode it is of."""
        return self.fingerprint, self.starts_at_ns


@dataclass(slots=True)
class AlertBalance:
    """What is wrong with alerts; all of it empty is what is wanted but for ``repeated``."""

    episodes: int = 0
    incidents: int = 0
    #: Events that stand on the topic more than once, by the same id.
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)


def alert_balance(
    incidents: Iterable[str],
    topic: Sequence[AlertEvent],
    rows: Mapping[tuple[str, int], str],
    feed: Sequence[AlertEvent],
) -> AlertBalance:
    """Every episode fired once and was resolved once, and every incident was one episode of its own.

    On the topic, which is written at least once, an event may stand twice by the same id; in the history (``rows``:
    status by episode) and for a client of the live feed it may not.
    """
    found = AlertBalance()
    told = Counter((event.episode, event.status) for event in topic)
    found.repeated = sum(count - 1 for count in told.values())
    names = {event.episode: f"{event.alertname} {event.service} {event.operation}".rstrip() for event in topic}
    found.episodes = len(names)
    for episode, name in sorted(names.items(), key=lambda item: item[0][1]):
        for status in ("firing", "resolved"):
            if not told[episode, status]:
                found.wrong.append(f"{name}: not {status} on the topic")
        if rows.get(episode) != "resolved":
            found.wrong.append(f"{name}: {rows.get(episode, 'not')} in the history")
    found.wrong += [f"{fingerprint}: in the history, not on the topic" for fingerprint, _ in rows.keys() - names.keys()]
    received = Counter((event.episode, event.status) for event in feed)
    for key, count in told.items():
        if received[key] != 1:
            found.wrong.append(
                f"{names[key[0]]} {key[1]}: {received[key]} times by the live feed, {count} on the topic"
            )
    wanted = sorted(incidents)
    found.incidents = len(wanted)
    for operation in wanted:
        episodes = {e.episode for e in topic if e.operation == operation and e.alertname == "ErrorSpans"}
        if len(episodes) != 1:
            found.wrong.append(f"{operation}: {len(episodes)} alerts instead of one")
    return found
