"""SQL that answers a fixed question. Every value is a parameter; every range of time is bounded."""

#: Services that have spans. A step a service over the index, however many spans there are.
SERVICES = """
WITH RECURSIVE found AS (
    (SELECT service FROM service_traces ORDER BY service LIMIT 1)
    UNION ALL
    SELECT (SELECT s.service FROM service_traces s WHERE s.service > found.service ORDER BY s.service LIMIT 1)
    FROM found WHERE found.service IS NOT NULL
)
SELECT service FROM found WHERE service IS NOT NULL LIMIT 10000
"""

#: Operations of a service: all that statistics know, and those of its newest spans.
OPERATIONS = """
SELECT DISTINCT operation, kind FROM (
    SELECT operation, kind FROM operation_hours WHERE service = %(service)s
    UNION ALL
    (SELECT operation, kind FROM service_traces WHERE service = %(service)s ORDER BY start_time DESC LIMIT 5000)
) AS known
WHERE %(kind)s::smallint IS NULL OR kind = %(kind)s
ORDER BY operation, kind LIMIT 10000
"""

DEPENDENCIES = """
SELECT caller, callee, callee_type, sum(calls)::bigint AS calls, sum(errors)::bigint AS errors,
       sum(duration_ns)::bigint AS duration_ns, sum(gap_ns)::bigint AS gap_ns, sum(gap_calls)::bigint AS gap_calls
FROM service_dependencies
WHERE start_time >= date_trunc('minute', %(start)s::timestamptz) AND start_time <= %(end)s
  AND (%(service)s = '' OR caller = %(service)s OR callee = %(service)s)
GROUP BY caller, callee, callee_type
ORDER BY caller, callee, callee_type LIMIT 10000
"""

#: What services call that is no service of ours, and who it is: Zipkin's remote services.
REMOTE_SERVICES = """
SELECT DISTINCT callee FROM service_dependencies
WHERE caller = %(service)s AND start_time >= %(start)s ORDER BY callee LIMIT 1000
"""

#: Minutes of operations; histograms as arrays.
OPERATION_MINUTES = """
SELECT start_time, service, operation, kind, spans, count_milli, error_milli, duration_buckets, duration_counts
FROM operation_minutes
WHERE service = ANY(%(services)s) AND start_time >= %(start)s AND start_time < %(end)s
  AND (%(kinds)s::smallint[] IS NULL OR kind = ANY(%(kinds)s))
ORDER BY start_time
"""

OPERATION_HOURS = OPERATION_MINUTES.replace("operation_minutes", "operation_hours")

#: Statistics of operations over a range, histograms merged.
OPERATION_STATISTICS = """
WITH minutes AS (
    SELECT * FROM operation_minutes
    WHERE service = %(service)s AND (%(operation)s = '' OR operation = %(operation)s)
      AND start_time >= date_trunc('minute', %(start)s::timestamptz) AND start_time < %(end)s
), durations AS (
    SELECT operation, kind, array_agg(bucket ORDER BY bucket) AS buckets, array_agg(counted ORDER BY bucket) AS counts
    FROM (
        SELECT operation, kind, bucket, sum(counted)::bigint AS counted
        FROM minutes, unnest(duration_buckets, duration_counts) AS each (bucket, counted)
        GROUP BY operation, kind, bucket
    ) AS merged GROUP BY operation, kind
), self_times AS (
    SELECT operation, kind, array_agg(bucket ORDER BY bucket) AS buckets, array_agg(counted ORDER BY bucket) AS counts
    FROM (
        SELECT operation, kind, bucket, sum(counted)::bigint AS counted
        FROM minutes, unnest(self_time_buckets, self_time_counts) AS each (bucket, counted)
        GROUP BY operation, kind, bucket
    ) AS merged GROUP BY operation, kind
), totals AS (
    SELECT operation, kind, sum(spans)::bigint AS spans, sum(count_milli)::bigint AS count_milli,
           sum(error_milli)::bigint AS error_milli, max(slowest_trace_id) AS slow_trace_id,
           max(failed_trace_id) AS failed_trace_id
    FROM minutes GROUP BY operation, kind
)
SELECT totals.*,
       histogram_quantile(d.buckets, d.counts, 0.5) AS p50_ns, histogram_quantile(d.buckets, d.counts, 0.95) AS p95_ns,
       histogram_quantile(d.buckets, d.counts, 0.99) AS p99_ns,
       histogram_quantile(s.buckets, s.counts, 0.5) AS self_p50_ns,
       histogram_quantile(s.buckets, s.counts, 0.99) AS self_p99_ns
FROM totals LEFT JOIN durations d USING (operation, kind) LEFT JOIN self_times s USING (operation, kind)
ORDER BY count_milli DESC, operation, kind LIMIT 1000
"""

ERROR_GROUPS = """
SELECT g.group_id, g.service, g.operation, g.error_type, g.message, g.first_seen, g.last_seen, g.last_trace_id,
       m.errors, m.origins
FROM error_groups g
JOIN (
    SELECT group_id, sum(errors)::bigint AS errors, sum(origins)::bigint AS origins FROM error_group_minutes
    WHERE start_time >= date_trunc('minute', %(start)s::timestamptz) AND start_time <= %(end)s GROUP BY group_id
) AS m USING (group_id)
WHERE %(service)s = '' OR g.service = %(service)s
ORDER BY m.errors DESC, g.group_id LIMIT %(rows)s
"""

ALERTS = """
SELECT fingerprint, status, labels, annotations, evidence, starts_at_ns, starts_at, ends_at, updated_at, detected_at,
       resolved_at, replay_id
FROM alerts
WHERE starts_at >= %(start)s AND starts_at <= %(end)s AND replay_id = %(replay)s
  AND (%(service)s = '' OR service = %(service)s) AND (%(severity)s = '' OR severity = %(severity)s)
  AND (%(status)s = '' OR status = %(status)s)
  AND (%(before_ns)s::bigint IS NULL OR (starts_at_ns, fingerprint) < (%(before_ns)s, %(before_id)s))
ORDER BY starts_at DESC, starts_at_ns DESC, fingerprint DESC LIMIT %(rows)s
"""

HEALTH = """
SELECT DISTINCT ON (service) service, start_time, score, reasons FROM service_health
WHERE start_time >= %(start)s AND start_time <= %(end)s AND replay_id = ''
ORDER BY service, start_time DESC LIMIT 10000
"""

#: Replays and how far they came.
REPLAYS = """
SELECT replay_id, name, source, from_time, until_time, state, records, spans, unreadable, traces_new, traces_amended,
       traces_unchanged, alerts, failure, started_at, updated_at
FROM replays
WHERE (%(state)s = '' OR state = %(state)s) AND (%(replay_id)s = '' OR replay_id = %(replay_id)s)
ORDER BY started_at DESC LIMIT %(rows)s
"""
