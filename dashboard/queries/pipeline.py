"""Whether the picture can be trusted: how complete traces are, how late they are stored, what could not be read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from dashboard.queries.query import Query, minutes_of, query
from dashboard.time_range import MINUTE_NS, TimeRange

#: Records that wait for a moment in a pipeline that keeps up.
_USUAL_LAG: Final = 1000
_COUNTS: Final = ("traces", "spans", "incomplete", "rootless", "orphaned", "amended", "cut", "duplicates")


def storing(span: TimeRange, points: int) -> Query:
    """A row a step: ``at`` and counts: ``traces, spans, incomplete, rootless, orphaned, amended, cut, duplicates``.

    Answered by the covering index of ``traces`` alone.
    """
    start, end = minutes_of(span)
    return query(
        """
        SELECT date_bin(%(step)s, start_time, %(start)s) AS at, count(*) AS traces, sum(span_count)::bigint AS spans,
               count(*) FILTER (WHERE NOT is_complete) AS incomplete,
               count(*) FILTER (WHERE missing_root) AS rootless,
               count(*) FILTER (WHERE missing_parents > 0) AS orphaned,
               count(*) FILTER (WHERE reason = 'late') AS amended,
               count(*) FILTER (WHERE reason IN ('max_age', 'max_spans')) AS cut,
               sum(duplicate_count)::bigint AS duplicates
        FROM traces WHERE start_time >= %(start)s AND start_time < %(end)s
        GROUP BY at ORDER BY at
        """,
        start=start,
        end=end,
        step=timedelta(microseconds=storing_step_ns(span, points) // 1000),
    )


def delays(span: TimeRange, points: int) -> Query:
    """A row a step: ``at, delay_p50_s, delay_p95_s`` from the last arrival to the row, of one live trace in eight."""
    start, end = minutes_of(span)
    return query(
        """
        SELECT date_bin(%(step)s, start_time, %(start)s) AS at,
               percentile_disc(0.5) WITHIN GROUP (ORDER BY delay_s) AS delay_p50_s,
               percentile_disc(0.95) WITHIN GROUP (ORDER BY delay_s) AS delay_p95_s
        FROM (
            SELECT start_time, greatest(0, date_part('epoch', stored_at) - last_arrival_ns / 1e9::float8) AS delay_s
            FROM traces
            WHERE start_time >= %(start)s AND start_time < %(end)s AND replay_id = ''
              AND get_byte(trace_id, 15) %% 8 = 0
        ) AS stored
        GROUP BY at ORDER BY at
        """,
        start=start,
        end=end,
        step=timedelta(microseconds=storing_step_ns(span, points) // 1000),
    )


def summed_steps(steps: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The counts of ``storing`` over all of a range."""
    totals = dict.fromkeys(_COUNTS, 0)
    for step in steps:
        for name in _COUNTS:
            totals[name] += step[name]
    return totals


def storing_step_ns(span: TimeRange, points: int) -> int:
    """The length of a step of ``storing`` and ``delays``."""
    return max(span.step_ns(points), MINUTE_NS)


def offsets() -> Query:
    """A row a partition: ``topic, partition, next_offset, updated_at``."""
    return query("SELECT topic, partition, next_offset, updated_at FROM sink_offsets ORDER BY topic, partition")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a room's /metrics in words; ``worry`` is the sentence for the reader if it is too high."""

    name: str
    metric: str
    worry: str = ""

    def worries(self, value: float) -> bool:
        """Whether the reader must know. Some records are always under way: only many of them are a lag."""
        return bool(self.worry) and value > (_USUAL_LAG if "lag" in self.metric else 0)


#: What a person should see of each room, of all it exports.
FIGURES: Mapping[str, tuple[Figure, ...]] = {
    "stream": (
        Figure("Spans assembled", "tracewatch_stream_spans_total"),
        Figure("Open traces", "tracewatch_stream_open_traces"),
        Figure("Records waiting", "tracewatch_stream_consumer_lag_records", "The stream is behind its input."),
        Figure("Late spans", "tracewatch_stream_late_spans_total"),
        Figure("Orphan spans", "tracewatch_stream_orphan_spans_total", "Parents never arrived: a service sends none."),
        Figure("Duplicates dropped", "tracewatch_stream_duplicate_spans_total"),
        Figure("Traces shed", "tracewatch_stream_shed_traces_total", "The stream ran out of memory for open traces."),
        Figure("Sampled out", "tracewatch_stream_sampled_out_traces_total"),
        Figure("Dead letters", "tracewatch_stream_dead_letters_total", "Records could not be read."),
    ),
    "sink": (
        Figure("Spans stored", "tracewatch_sink_spans_total"),
        Figure("Traces stored", "tracewatch_sink_traces_total"),
        Figure("Records waiting", "tracewatch_sink_lag_records", "The history is behind the stream."),
        Figure("Rows in hand", "tracewatch_sink_buffered_rows"),
        Figure("Retries", "tracewatch_sink_retries_total"),
        Figure("Seconds without PostgreSQL", "tracewatch_sink_postgres_away_seconds", "The sink cannot store."),
        Figure("Dead letters", "tracewatch_sink_dead_letters_total", "Rows could not be stored."),
    ),
    "live_api": (
        Figure("Subscribers", "tracewatch_live_api_subscribers"),
        Figure("Events read", "tracewatch_live_api_events_total"),
        Figure("Records not readable", "tracewatch_live_api_undecodable_records_total", "Events could not be read."),
    ),
}


def summed(samples: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Samples of a metrics page by name, summed over their labels."""
    totals: dict[str, float] = {}
    for name, value in samples:
        totals[name] = totals.get(name, 0.0) + value
    return totals
