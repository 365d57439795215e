"""Quantiles and histograms that the database adds up, against the same added up here."""

from collections import Counter
from math import ceil

import psycopg
import pytest
from psycopg.rows import dict_row

from dashboard.queries import statistics
from dashboard.queries.query import Query, Row, nanoseconds
from dashboard.time_range import TimeRange
from tests.dashboard.conftest import DAY, HOUR, MINUTE, Seeded
from tracecore.buckets import bounds_of

#: A day and an hour that begin and end within an hour, and less than an hour: whole hours, and none.
RANGES = (25 * HOUR + 7 * MINUTE, 40 * MINUTE)


def rows_of(database: Seeded, query: Query) -> list[Row]:
    with psycopg.connect(database.url, row_factory=dict_row) as connection:
        return list(connection.execute(query.sql, query.named).fetchall())


def counted(database: Seeded, span: TimeRange, service: str, operation: str) -> Counter[int]:
    """Thousandths by bucket of what began in the minutes of a range, from the roll-up by the minute."""
    minutes = rows_of(
        database,
        Query(
            "SELECT start_time, duration_buckets, duration_counts FROM operation_minutes"
            " WHERE service = %(service)s AND operation = %(operation)s",
            (("operation", operation), ("service", service)),
        ),
    )
    counts: Counter[int] = Counter()
    for row in minutes:
        if span.start_ns - span.start_ns % MINUTE <= nanoseconds(row["start_time"]) < span.end_ns:
            for bucket, count in zip(row["duration_buckets"], row["duration_counts"], strict=True):
                counts[bucket] += count
    return counts


@pytest.mark.parametrize("length_ns", RANGES)
def test_a_sum_of_hours_and_minutes_is_that_of_the_minutes(seeded: Seeded, length_ns: int) -> None:
    span = TimeRange(seeded.until - length_ns, seeded.until)
    counts = counted(seeded, span, "payment", "charge")
    levels: Counter[int] = Counter()
    for bucket, count in counts.items():
        levels[bucket // statistics.COARSE] += count
    answer = rows_of(seeded, statistics.distribution(span, "payment", "charge"))
    assert {row["coarse"]: row["count"] for row in answer} == levels


@pytest.mark.parametrize("length_ns", RANGES)
def test_a_quantile_is_the_bucket_that_holds_its_share(seeded: Seeded, length_ns: int) -> None:
    span = TimeRange(seeded.until - length_ns, seeded.until)
    counts = counted(seeded, span, "payment", "charge")
    each = [bucket for bucket, count in sorted(counts.items()) for _ in range(count // 1000)]
    row = next(
        row for row in rows_of(seeded, statistics.operations_table(span, "payment")) if row["operation"] == "charge"
    )
    assert row["spans"] == len(each)
    for name, share in (("p50_ns", 0.5), ("p95_ns", 0.95), ("p99_ns", 0.99)):
        low_ns, high_ns = bounds_of(each[ceil(share * len(each)) - 1])
        assert low_ns <= row[name] < high_ns


def test_the_histograms_of_all_steps_are_the_histogram_of_the_range(seeded: Seeded) -> None:
    span = TimeRange(seeded.until - DAY - HOUR, seeded.until)
    steps = rows_of(seeded, statistics.operation_series(span, "payment", "", 90))
    whole = rows_of(seeded, statistics.distribution(span, "payment", ""))
    assert statistics.counts_by_level(statistics.heat_of(steps)) == statistics.counts_by_level(whole)
    assert sum(statistics.counts_by_level(whole).values()) == sum(step["spans"] for step in steps)
