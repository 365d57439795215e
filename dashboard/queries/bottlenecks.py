"""Where traces spend their critical path: by operation, and on the network between services.

Asked of a sample of traces: shares of time converge long before all spans are read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dashboard.queries.query import Query, Row, moment, query
from dashboard.time_range import TimeRange

SAMPLED_TRACES: Final = 1500


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """An operation of a service, or a hop to ``callee`` (then not empty), and its share of all critical paths."""

    service: str
    operation: str
    callee: str
    share: float
    share_before: float | None
    spans: int


def critical_shares(span: TimeRange) -> Query:
    """A row an operation or hop: ``service, operation, callee, critical_ns, spans``; ``traces`` were read.

    What a client's span adds to the critical path while its server's span exists is the hop's: network and queues.
    """
    return query(
        """
        WITH chosen AS MATERIALIZED (
            SELECT trace_id FROM traces WHERE start_time >= %(start)s AND start_time < %(end)s
            ORDER BY substring(trace_id FROM 15 FOR 2), trace_id LIMIT %(traces)s
        ), sample AS MATERIALIZED (
            SELECT trace_id, spans_from, spans_until FROM chosen JOIN traces USING (trace_id)
        ), spans AS (
            -- A server's span with a gap stands in one partition with its client's span: no join, which a wrong
            -- estimate would turn into a nested loop over all pairs.
            SELECT s.service, s.operation, s.critical_path_ns,
                   CASE WHEN s.kind IN (3, 4) AND s.gap_ns IS NULL THEN
                       max(s.service) FILTER (WHERE s.gap_ns IS NOT NULL) OVER (
                           PARTITION BY s.trace_id, CASE WHEN s.gap_ns IS NULL THEN s.span_id ELSE s.tree_parent_id END
                       )
                   END AS callee
            FROM sample, LATERAL (
                SELECT * FROM service_traces
                WHERE trace_id = sample.trace_id AND start_time BETWEEN sample.spans_from AND sample.spans_until
                  AND start_time >= %(start)s - interval '1 hour' AND start_time < %(end)s + interval '1 hour'
            ) AS s
        )
        SELECT service, operation, coalesce(callee, '') AS callee, sum(critical_path_ns)::float8 AS critical_ns,
               count(*) AS spans, (SELECT count(*) FROM sample) AS traces
        FROM spans
        GROUP BY service, operation, coalesce(callee, '')
        HAVING sum(critical_path_ns) > 0
        ORDER BY critical_ns DESC
        """,
        start=moment(span.start_ns),
        end=moment(span.end_ns),
        traces=SAMPLED_TRACES,
    )


def bottlenecks(now: Iterable[Row], before: Iterable[Row]) -> list[Bottleneck]:
    """Largest share first; ``share_before`` is None if nothing is known of before, 0 if this was not there."""
    rows, earlier = list(now), list(before)
    whole = sum(row["critical_ns"] for row in rows)
    whole_before = sum(row["critical_ns"] for row in earlier)
    past = {(row["service"], row["operation"], row["callee"]): row["critical_ns"] for row in earlier}
    return [
        Bottleneck(
            row["service"],
            row["operation"],
            row["callee"],
            row["critical_ns"] / whole,
            past.get((row["service"], row["operation"], row["callee"]), 0.0) / whole_before if whole_before else None,
            row["spans"],
        )
        for row in rows
    ]
