"""The history in PostgreSQL: one batch, one transaction, offsets and rows together.

The offsets' rows are locked first and compared: of two sinks that think they own a partition, one stores the batch and
the other is told (``Overtaken``). A batch that PostgreSQL refuses is halved, down to the rows that are poison.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

import psycopg

from sink.alert_store import store_alerts
from sink.batches import Batch, Record
from sink.contributions import Sums
from sink.errors import Overtaken, SchemaMissing, StoreAway
from sink.health_store import store_health
from sink.letters import Letter, record_letter, span_letter
from sink.postgres import connect, copy_rows, first_line
from sink.prerequisites import Prerequisites
from sink.rows import DAY_NS, SPAN_COLUMNS
from sink.sums_store import store_sums
from sink.trace_store import TraceStore
from sink.window_store import store_windows
from tracecore.redaction import BUILT_IN, Redaction

Partition = tuple[str, int]
Publish = Callable[[Sequence[Letter]], None]

#: What PostgreSQL says of a row that it cannot hold.
ROW_ERRORS = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
#: A row that looks like another sink's doing this often in a row is none: then it is poison.
RACES = 3


@dataclass(slots=True)
class Outcome:
    """What a batch did."""

    spans: int = 0
    traces_new: int = 0
    traces_amended: int = 0
    traces_unchanged: int = 0
    windows: int = 0
    alerts: int = 0
    health: int = 0
    letters: list[Letter] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Add what another part of the batch did."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class _Place(NamedTuple):
    """A window, an alert or a statement of health, by its place in the batch."""

    kind: Literal["window", "alert", "health"]
    place: int


#: The smallest thing that is stored or refused as a whole; a trace by its id.
_Unit = bytes | _Place


class Store:
    """One connection to PostgreSQL. Not for several threads."""

    def __init__(self, database_url: str, redrive_topic: str, redaction: Redaction = BUILT_IN) -> None:
        """``redrive_topic``: where spans are to be sent again that were stored nowhere."""
        self._url = database_url
        self._redrive_topic = redrive_topic
        self._connection: psycopg.Connection | None = None
        self._prerequisites = Prerequisites()
        self._traces = TraceStore(self._prerequisites, redaction)
        self._races = 0

    def offsets(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The next offset of each partition, 0 for one that is new. Raises ``StoreAway``, ``SchemaMissing``."""
        # They may stand elsewhere since the history was emptied or restored: what was there before may be gone, too.
        self._prerequisites.forget()
        with self._session() as connection, connection.transaction():
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO sink_offsets (topic, partition, next_offset) VALUES (%s, %s, 0)"
                    " ON CONFLICT DO NOTHING",
                    sorted(partitions),
                )
            return _locked_offsets(connection, partitions)

    def store(self, batch: Batch, expected: Mapping[Partition, int], publish: Publish) -> Outcome:
        """Store a batch whose partitions stood at ``expected``; ``publish`` sends its dead letters before the commit.

        Raises ``Overtaken`` if they stand elsewhere, ``StoreAway`` or ``SchemaMissing`` to try again later.
        """
        with self._session() as connection:
            # Outside the transaction: no lock on a day or a resource is held for long.
            self._prerequisites.ensure_days(connection, {window.start_ns // DAY_NS for window, _ in batch.windows})
            for rows in batch.rows.values():
                self._prerequisites.ensure(connection, rows)
            if batch.packed_rows is not None:
                self._prerequisites.ensure_days(connection, batch.packed_rows.days)
                self._prerequisites.ensure_shared(connection, batch.packed_rows.shared)
            with connection.transaction():
                self._check_offsets(connection, batch, expected)
                outcome = Outcome(letters=[record_letter(record, reason) for record, reason in batch.unreadable])
                self._land(connection, batch, _units(batch), outcome)
                if outcome.letters:
                    # Before the commit: a crash between the two repeats a letter, and never loses one.
                    publish(outcome.letters)
                _store_offsets(connection, {place: offsets.next for place, offsets in batch.ranges.items()})
            self._races = 0
            return outcome

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._url)
            yield self._connection
        except psycopg.errors.UndefinedTable as error:
            self.close()
            raise SchemaMissing(f"{first_line(error)}; run: python -m migrations up") from error
        except psycopg.Error as error:
            # A lost connection, a server that shuts down, a deadlock, a missing privilege, a full disk: whatever it is,
            # the batch is whole and is tried again.
            self.close()
            self._prerequisites.forget()
            raise StoreAway(first_line(error)) from error

    def _check_offsets(self, connection: psycopg.Connection, batch: Batch, expected: Mapping[Partition, int]) -> None:
        stored = _locked_offsets(connection, sorted(batch.ranges))
        for partition in batch.ranges:
            if stored.get(partition) != expected.get(partition):
                topic, number = partition
                raise Overtaken(
                    f"{topic}[{number}] is stored to {stored.get(partition)}, not {expected.get(partition)}"
                )

    def _land(self, connection: psycopg.Connection, batch: Batch, units: Sequence[_Unit], outcome: Outcome) -> None:
        """Store units; if PostgreSQL refuses a row, half of them at a time, down to the one that is poison."""
        if not units:
            return
        try:
            with connection.transaction():
                attempt = self._attempt(connection, batch, units)
        except ROW_ERRORS as error:
            if self._passes_by_itself(error):
                raise
            if len(units) > 1:
                middle = len(units) // 2
                self._land(connection, batch, units[:middle], outcome)
                self._land(connection, batch, units[middle:], outcome)
            else:
                self._refuse(connection, batch, units[0], first_line(error), outcome)
        else:
            outcome.add(attempt)

    def _attempt(self, connection: psycopg.Connection, batch: Batch, units: Sequence[_Unit]) -> Outcome:
        outcome = Outcome()
        sums = Sums()
        trace_ids = [unit for unit in units if isinstance(unit, bytes)]
        if trace_ids:
            done = self._traces.store(connection, batch, trace_ids, sums)
            outcome.spans = done.spans
            outcome.traces_new, outcome.traces_amended, outcome.traces_unchanged = (
                done.new,
                done.amended,
                done.unchanged,
            )
            outcome.letters = [
                span_letter(rows.trace, span, batch.records[rows.trace.trace_id][-1], reason, self._redrive_topic)
                for rows in done.poison
                for span, reason in rows.poison
            ]
        places: dict[str, list[int]] = {"window": [], "alert": [], "health": []}
        for unit in units[len(trace_ids) :]:
            assert isinstance(unit, _Place), "traces come first"
            places[unit.kind].append(unit.place)
        windows = [batch.windows[place][0] for place in places["window"]]
        if windows:
            outcome.windows = store_windows(connection, windows)
        alerts = [batch.alerts[place][0] for place in places["alert"]]
        if alerts:
            store_alerts(connection, alerts)
            outcome.alerts = len(alerts)
        health = [batch.health[place][0] for place in places["health"]]
        if health:
            store_health(connection, health)
            outcome.health = len(health)
        store_sums(connection, sums)
        return outcome

    def _passes_by_itself(self, error: psycopg.Error) -> bool:
        """True of what is another sink's doing, or retention's: tried again, the trace is known, the day made anew."""
        is_race = isinstance(error, psycopg.errors.UniqueViolation) or "no partition" in str(error)
        self._races = self._races + 1 if is_race else 0
        return is_race and self._races <= RACES

    def _refuse(self, connection: psycopg.Connection, batch: Batch, unit: _Unit, reason: str, outcome: Outcome) -> None:
        """A unit that PostgreSQL refuses by itself: of a trace the spans that are to blame, else the whole record."""
        reason = f"PostgreSQL refuses it: {reason}"
        if isinstance(unit, _Place):
            stated: Mapping[str, Sequence[tuple[object, Record]]] = {
                "window": batch.windows,
                "alert": batch.alerts,
                "health": batch.health,
            }
            outcome.letters.append(record_letter(stated[unit.kind][unit.place][1], reason))
            return
        self._traces.unpack(batch, unit)
        rows = batch.rows.get(unit)
        known = batch.refused.setdefault(unit, {})
        if rows is not None and not known:
            for index, why in _refused_rows(connection, rows.span_rows).items():
                known[rows.spans[index].span_id] = f"PostgreSQL refuses it: {why}"
            if known:
                self._land(connection, batch, [unit], outcome)
                return
        outcome.letters += [record_letter(record, reason) for record in batch.records[unit]]


def _units(batch: Batch) -> list[_Unit]:
    """All that a batch holds, traces first."""
    return [
        *batch.records,
        *(_Place("window", place) for place in range(len(batch.windows))),
        *(_Place("alert", place) for place in range(len(batch.alerts))),
        *(_Place("health", place) for place in range(len(batch.health))),
    ]


def _locked_offsets(connection: psycopg.Connection, partitions: Sequence[Partition]) -> dict[Partition, int]:
    rows = connection.execute(
        "SELECT topic, partition, next_offset FROM sink_offsets"
        " WHERE (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::int[]))"
        " ORDER BY topic, partition FOR UPDATE",
        ([topic for topic, _ in partitions], [partition for _, partition in partitions]),
    )
    return {(topic, partition): offset for topic, partition, offset in rows}


def _store_offsets(connection: psycopg.Connection, offsets: Mapping[Partition, int]) -> None:
    connection.execute(
        "UPDATE sink_offsets AS s SET next_offset = n.next_offset, updated_at = clock_timestamp()"
        " FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS n (topic, partition, next_offset)"
        " WHERE (s.topic, s.partition) = (n.topic, n.partition)",
        ([topic for topic, _ in offsets], [partition for _, partition in offsets], list(offsets.values())),
    )


class _Undone(Exception):
    """Takes a savepoint back."""


def _refused_rows(connection: psycopg.Connection, rows: Sequence[bytes]) -> dict[int, str]:
    """Which span rows PostgreSQL cannot hold, by their place, and why: by halves, each tried and taken back."""

    def refused(low: int, high: int) -> dict[int, str]:
        try:
            with connection.transaction():
                copy_rows(connection, "service_traces", SPAN_COLUMNS, rows[low:high])
                raise _Undone
        except _Undone:
            return {}
        except ROW_ERRORS as error:
            if high - low == 1:
                return {low: first_line(error)}
            middle = (low + high) // 2
            return refused(low, middle) | refused(middle, high)

    return refused(0, len(rows))
