"""Days are made ahead and dropped when their time is over."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from sink.errors import StoreAway
from sink.retention import RetentionRule, keep_house
from tests.services import run_room
from tests.sink.builders import checkout_trace, trace_of
from tests.sink.harness import SinkProcess, eventually, query
from tests.sink.test_store import Writer, operation_window
from tracecore.topics import Topics

TODAY = date(2026, 11, 22)
RULE = RetentionRule(spans_days=14, statistics_days=90, summary_days=730, ahead_days=3)


def days_of(database: str, table: str = "service_traces") -> list[date]:
    found = query(database, "SELECT day FROM day_partitions WHERE table_name = %s ORDER BY 1", table)
    return [day for (day,) in found if isinstance(day, date)]


def age(database: str, days: int) -> None:
    """Make every partition as if it had been made so many days ago."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE day_partitions SET created_at = created_at - %s", (timedelta(days=days),))


def test_days_are_made_ahead(database: str) -> None:
    done = keep_house(database, RULE, TODAY)
    assert done is not None and done.made and not done.dropped
    assert days_of(database) == [TODAY + timedelta(days=n) for n in range(4)]
    again = keep_house(database, RULE, TODAY)
    assert again is not None and not again.made


def test_spans_go_first_then_statistics_then_summaries(database: str) -> None:
    writer = Writer(database)
    writer.write_traces(*(trace_of(checkout_trace(n)) for n in range(5)))
    writer.write_windows(operation_window())
    writer.store.close()
    created = query(database, "SELECT max(created_at)::date FROM day_partitions")[0][0]
    assert isinstance(created, date)
    start = max(TODAY, created)

    kept = keep_house(database, RULE, start + timedelta(days=14))
    assert kept is not None and not kept.dropped and not kept.deleted
    trial = keep_house(database, RULE, start + timedelta(days=15), dry_run=True)
    assert trial is not None and ("service_traces", TODAY) in trial.dropped
    assert TODAY in days_of(database), "a trial drops nothing"

    fifteen = keep_house(database, RULE, start + timedelta(days=15))
    assert fifteen is not None and fifteen.dropped == (("service_traces", TODAY),)
    assert dict(fifteen.deleted).keys() == {"traces", "resources", "scopes"}
    assert query(database, "SELECT count(*) FROM service_traces") == [(0,)]
    assert query(database, "SELECT count(*) FROM operation_minutes") == [(1,)]

    ninety = keep_house(database, RULE, start + timedelta(days=91))
    assert ninety is not None and ("operation_minutes", TODAY) in ninety.dropped
    assert query(database, "SELECT count(*) FROM operation_hours") == [(1,)]
    years = keep_house(database, RULE, start + timedelta(days=731))
    assert years is not None and ("operation_hours", 1) in years.deleted


def test_an_old_day_that_was_loaded_yesterday_is_kept(database: str) -> None:
    writer = Writer(database)
    writer.write_traces(trace_of(checkout_trace(1, start_ns=1_661_140_800 * 10**9)))
    writer.store.close()
    today = date.today() + timedelta(days=1)  # noqa: DTZ011  # made just now, by the server's clock
    done = keep_house(database, RULE, today)
    assert done is not None and not done.dropped and not done.deleted
    age(database, 20)
    done = keep_house(database, RULE, today)
    assert done is not None and ("service_traces", date(2022, 8, 22)) in done.dropped
    assert query(database, "SELECT count(*) FROM traces") == [(0,)]


def test_one_sink_at_a_time_keeps_house(database: str) -> None:
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (0x7472616365770002,))
        assert keep_house(database, RULE, TODAY) is None
    assert keep_house(database, RULE, TODAY) is not None


def test_a_day_that_is_being_read_waits_till_next_time(database: str) -> None:
    keep_house(database, RULE, TODAY)
    age(database, 100)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM service_traces")
        done = keep_house(database, RetentionRule(1, 3650, 3650, 0), TODAY + timedelta(days=2))
        assert done is not None and not done.dropped
    done = keep_house(database, RetentionRule(1, 3650, 3650, 0), TODAY + timedelta(days=2))
    assert done is not None and ("service_traces", TODAY) in done.dropped


def test_a_database_that_is_away_is_said_to_be() -> None:
    with pytest.raises(StoreAway):
        keep_house("postgresql://127.0.0.1:1/none", RULE, TODAY)
    outcome = run_room("sink", "retention", environment={"TRACEWATCH_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert outcome.returncode == 1 and "TRACEWATCH_DATABASE_URL" in outcome.stderr


def test_the_command_says_what_it_did(database: str) -> None:
    outcome = run_room("sink", "retention", environment={"TRACEWATCH_DATABASE_URL": database})
    assert (outcome.returncode, "partitions made ahead" in outcome.stdout) == (0, True)


def test_a_running_sink_keeps_house_by_itself(
    make_topics: Callable[..., Topics], kafka_environment: dict[str, str], database: str, tmp_path: Path
) -> None:
    make_topics(partitions=1)
    keep_house(database, RULE, date(2020, 1, 1))
    age(database, 400)
    assert date(2020, 1, 1) in days_of(database)
    with SinkProcess({**kafka_environment, "TRACEWATCH_DATABASE_URL": database}, tmp_path / "sink.log"):
        eventually(lambda: days_of(database), lambda days: date(2020, 1, 1) not in days and len(days) >= 4, 60)
