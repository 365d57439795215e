"""A question to the history: SQL and its parameters, comparable and hashable so that an answer can be remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard.time_range import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, TimeRange

#: A row as the database gives it, by column name.
Row = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Query:
    """``sql`` with psycopg's named placeholders; ``parameters`` in the order of their names."""

    sql: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def named(self) -> dict[str, Any]:
        """The parameters by name; tuples become lists, which are SQL arrays."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.parameters}

    @property
    def is_of_a_range(self) -> bool:
        """Whether it asks about a stretch of time, whose end is a parameter."""
        return any(name == "end" for name, _ in self.parameters)


def query(sql: str, **parameters: Any) -> Query:
    """Values must be hashable: a tuple for an array."""
    return Query(sql, tuple(sorted(parameters.items())))


def moment(time_ns: int) -> datetime:
    """Unix nanoseconds as a timestamptz parameter, cut to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def nanoseconds(instant: datetime) -> int:
    """A timestamptz as Unix nanoseconds."""
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1000


def minutes_of(span: TimeRange) -> tuple[datetime, datetime]:
    """The whole minutes that a range touches: what tables with a row a minute are asked for."""
    return moment(span.start_ns - span.start_ns % MINUTE_NS), moment(span.end_ns)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which roll-up answers for a range: the suffix of its tables, and the length of a row."""

    suffix: str
    step_ns: int

    def bounds(self, span: TimeRange) -> tuple[datetime, datetime]:
        """The whole steps that a range touches."""
        return moment(span.start_ns - span.start_ns % self.step_ns), moment(span.end_ns)


WINDOWS = Resolution("windows", 10 * SECOND_NS)
MINUTES = Resolution("minutes", MINUTE_NS)
HOURS = Resolution("hours", HOUR_NS)


def whole_hours(span: TimeRange) -> tuple[datetime, datetime]:
    """The hours that lie in a range from end to end; where there are none, twice the same moment of it."""
    first_ns = min(-(-span.start_ns // HOUR_NS) * HOUR_NS, span.end_ns)
    return moment(first_ns), moment(max(span.end_ns // HOUR_NS * HOUR_NS, first_ns))


def resolution_for_all(span: TimeRange) -> Resolution:
    """For a question over every operation: coarse enough that a few million histogram buckets answer it."""
    return MINUTES if span.duration_ns <= 3 * HOUR_NS else HOURS


def resolution_for_one(span: TimeRange) -> Resolution:
    """For a question about one operation or service."""
    if span.duration_ns <= 20 * MINUTE_NS:
        return WINDOWS
    return MINUTES if span.duration_ns <= 2 * DAY_NS else HOURS
