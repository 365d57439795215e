-- Statistics of operations and of hops between services: ten-second parts as the stream made them, and their roll-ups.
-- Histograms are log-linear (tracecore/buckets.py): 64 buckets a power of two, so that a quantile is off by 1 % at most.

CREATE OR REPLACE FUNCTION histogram_bucket_middle(bucket integer) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE
    WHEN bucket < 128 THEN bucket::double precision
    ELSE (64 + bucket % 64 + 0.5) * power(2::double precision, bucket / 64 - 1) - 0.5
END;
COMMENT ON FUNCTION histogram_bucket_middle(integer) IS 'The value that a bucket''s index stands for.';

CREATE OR REPLACE FUNCTION histogram_quantile(buckets integer[], counts bigint[], q double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
    SELECT histogram_bucket_middle(bucket)
    FROM (
        SELECT bucket, sum(count) OVER (ORDER BY bucket) AS seen, sum(count) OVER () AS total
        FROM unnest(buckets, counts) AS histogram (bucket, count)
    ) AS cumulated
    WHERE seen >= q * total
    ORDER BY bucket
    LIMIT 1
);
COMMENT ON FUNCTION histogram_quantile(integer[], bigint[], double precision) IS
    'Value below which the fraction q of the counts lies, off by 1 % at most; null if nothing was counted.';

CREATE TABLE IF NOT EXISTS operation_windows (
    start_time timestamptz NOT NULL,
    spans bigint NOT NULL,
    count_milli bigint NOT NULL,
    error_milli bigint NOT NULL,
    source_partition integer NOT NULL,
    kind smallint NOT NULL,
    service text NOT NULL,
    operation text NOT NULL,
    duration_buckets integer[] NOT NULL,
    duration_counts bigint[] NOT NULL,
    self_time_buckets integer[] NOT NULL,
    self_time_counts bigint[] NOT NULL,
    slowest_trace_id bytea,
    failed_trace_id bytea,
    PRIMARY KEY (start_time, service, operation, kind, source_partition)
) PARTITION BY RANGE (start_time);
COMMENT ON TABLE operation_windows IS
    'Per operation of a service, ten seconds and source partition, as the stream published it: the parts that make the roll-ups exact.';
COMMENT ON COLUMN operation_windows.start_time IS 'Start of the ten seconds.';
COMMENT ON COLUMN operation_windows.spans IS 'Spans that were seen.';
COMMENT ON COLUMN operation_windows.count_milli IS 'Spans that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN operation_windows.error_milli IS 'Of these, with status Error.';
COMMENT ON COLUMN operation_windows.source_partition IS 'Partition of the spans topic that the part is from; parts add up.';
COMMENT ON COLUMN operation_windows.kind IS 'Span kind, as in service_traces.';
COMMENT ON COLUMN operation_windows.service IS 'Service.';
COMMENT ON COLUMN operation_windows.operation IS 'Span name.';
COMMENT ON COLUMN operation_windows.duration_buckets IS 'Histogram of durations (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN operation_windows.duration_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN operation_windows.self_time_buckets IS 'Histogram of self times (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN operation_windows.self_time_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN operation_windows.slowest_trace_id IS 'A slow trace of this time, or null.';
COMMENT ON COLUMN operation_windows.failed_trace_id IS 'A failed trace of this time, or null.';

CREATE TABLE IF NOT EXISTS operation_minutes (
    start_time timestamptz NOT NULL,
    spans bigint NOT NULL,
    count_milli bigint NOT NULL,
    error_milli bigint NOT NULL,
    kind smallint NOT NULL,
    service text NOT NULL,
    operation text NOT NULL,
    duration_buckets integer[] NOT NULL,
    duration_counts bigint[] NOT NULL,
    self_time_buckets integer[] NOT NULL,
    self_time_counts bigint[] NOT NULL,
    slowest_trace_id bytea,
    failed_trace_id bytea,
    PRIMARY KEY (service, operation, kind, start_time)
) PARTITION BY RANGE (start_time);
COMMENT ON TABLE operation_minutes IS
    'Per operation of a service and minute. A partition a day (UTC).';
COMMENT ON COLUMN operation_minutes.start_time IS 'Start of the minute.';
COMMENT ON COLUMN operation_minutes.spans IS 'Spans that were seen.';
COMMENT ON COLUMN operation_minutes.count_milli IS 'Spans that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN operation_minutes.error_milli IS 'Of these, with status Error.';
COMMENT ON COLUMN operation_minutes.kind IS 'Span kind, as in service_traces.';
COMMENT ON COLUMN operation_minutes.service IS 'Service.';
COMMENT ON COLUMN operation_minutes.operation IS 'Span name.';
COMMENT ON COLUMN operation_minutes.duration_buckets IS 'Histogram of durations (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN operation_minutes.duration_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN operation_minutes.self_time_buckets IS 'Histogram of self times (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN operation_minutes.self_time_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN operation_minutes.slowest_trace_id IS 'A slow trace of this time, or null.';
COMMENT ON COLUMN operation_minutes.failed_trace_id IS 'A failed trace of this time, or null.';

CREATE TABLE IF NOT EXISTS operation_hours (
    start_time timestamptz NOT NULL,
    spans bigint NOT NULL,
    count_milli bigint NOT NULL,
    error_milli bigint NOT NULL,
    kind smallint NOT NULL,
    service text NOT NULL,
    operation text NOT NULL,
    duration_buckets integer[] NOT NULL,
    duration_counts bigint[] NOT NULL,
    self_time_buckets integer[] NOT NULL,
    self_time_counts bigint[] NOT NULL,
    slowest_trace_id bytea,
    failed_trace_id bytea,
    PRIMARY KEY (start_time, service, operation, kind)
);
COMMENT ON TABLE operation_hours IS
    'Per operation of a service and hour.';
COMMENT ON COLUMN operation_hours.start_time IS 'Start of the hour.';
COMMENT ON COLUMN operation_hours.spans IS 'Spans that were seen.';
COMMENT ON COLUMN operation_hours.count_milli IS 'Spans that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN operation_hours.error_milli IS 'Of these, with status Error.';
COMMENT ON COLUMN operation_hours.kind IS 'Span kind, as in service_traces.';
COMMENT ON COLUMN operation_hours.service IS 'Service.';
COMMENT ON COLUMN operation_hours.operation IS 'Span name.';
COMMENT ON COLUMN operation_hours.duration_buckets IS 'Histogram of durations (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN operation_hours.duration_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN operation_hours.self_time_buckets IS 'Histogram of self times (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN operation_hours.self_time_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN operation_hours.slowest_trace_id IS 'A slow trace of this time, or null.';
COMMENT ON COLUMN operation_hours.failed_trace_id IS 'A failed trace of this time, or null.';

CREATE TABLE IF NOT EXISTS hop_windows (
    start_time timestamptz NOT NULL,
    spans bigint NOT NULL,
    count_milli bigint NOT NULL,
    error_milli bigint NOT NULL,
    source_partition integer NOT NULL,
    caller text NOT NULL,
    callee text NOT NULL,
    operation text NOT NULL,
    duration_buckets integer[] NOT NULL,
    duration_counts bigint[] NOT NULL,
    gap_buckets integer[] NOT NULL,
    gap_counts bigint[] NOT NULL,
    slowest_trace_id bytea,
    failed_trace_id bytea,
    PRIMARY KEY (start_time, caller, callee, operation, source_partition)
) PARTITION BY RANGE (start_time);
COMMENT ON TABLE hop_windows IS
    'Per hop from a caller to an operation of a callee, ten seconds and source partition, as the stream published it: the parts that make the roll-ups exact.';
COMMENT ON COLUMN hop_windows.start_time IS 'Start of the ten seconds.';
COMMENT ON COLUMN hop_windows.spans IS 'Spans that were seen.';
COMMENT ON COLUMN hop_windows.count_milli IS 'Spans that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN hop_windows.error_milli IS 'Of these, with status Error.';
COMMENT ON COLUMN hop_windows.source_partition IS 'Partition of the spans topic that the part is from; parts add up.';
COMMENT ON COLUMN hop_windows.caller IS 'Service that called.';
COMMENT ON COLUMN hop_windows.callee IS 'Service, database, queue or peer that was called.';
COMMENT ON COLUMN hop_windows.operation IS 'Span name on the callee''s side.';
COMMENT ON COLUMN hop_windows.duration_buckets IS 'Histogram of durations (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN hop_windows.duration_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN hop_windows.gap_buckets IS 'Histogram of network gaps (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN hop_windows.gap_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN hop_windows.slowest_trace_id IS 'A slow trace of this time, or null.';
COMMENT ON COLUMN hop_windows.failed_trace_id IS 'A failed trace of this time, or null.';

CREATE TABLE IF NOT EXISTS hop_minutes (
    start_time timestamptz NOT NULL,
    spans bigint NOT NULL,
    count_milli bigint NOT NULL,
    error_milli bigint NOT NULL,
    caller text NOT NULL,
    callee text NOT NULL,
    operation text NOT NULL,
    duration_buckets integer[] NOT NULL,
    duration_counts bigint[] NOT NULL,
    gap_buckets integer[] NOT NULL,
    gap_counts bigint[] NOT NULL,
    slowest_trace_id bytea,
    failed_trace_id bytea,
    PRIMARY KEY (caller, callee, operation, start_time)
) PARTITION BY RANGE (start_time);
COMMENT ON TABLE hop_minutes IS
    'Per hop from a caller to an operation of a callee and minute. A partition a day (UTC).';
COMMENT ON COLUMN hop_minutes.start_time IS 'Start of the minute.';
COMMENT ON COLUMN hop_minutes.spans IS 'Spans that were seen.';
COMMENT ON COLUMN hop_minutes.count_milli IS 'Spans that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN hop_minutes.error_milli IS 'Of these, with status Error.';
COMMENT ON COLUMN hop_minutes.caller IS 'Service that called.';
COMMENT ON COLUMN hop_minutes.callee IS 'Service, database, queue or peer that was called.';
COMMENT ON COLUMN hop_minutes.operation IS 'Span name on the callee''s side.';
COMMENT ON COLUMN hop_minutes.duration_buckets IS 'Histogram of durations (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN hop_minutes.duration_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN hop_minutes.gap_buckets IS 'Histogram of network gaps (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN hop_minutes.gap_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN hop_minutes.slowest_trace_id IS 'A slow trace of this time, or null.';
COMMENT ON COLUMN hop_minutes.failed_trace_id IS 'A failed trace of this time, or null.';

CREATE TABLE IF NOT EXISTS hop_hours (
    start_time timestamptz NOT NULL,
    spans bigint NOT NULL,
    count_milli bigint NOT NULL,
    error_milli bigint NOT NULL,
    caller text NOT NULL,
    callee text NOT NULL,
    operation text NOT NULL,
    duration_buckets integer[] NOT NULL,
    duration_counts bigint[] NOT NULL,
    gap_buckets integer[] NOT NULL,
    gap_counts bigint[] NOT NULL,
    slowest_trace_id bytea,
    failed_trace_id bytea,
    PRIMARY KEY (start_time, caller, callee, operation)
);
COMMENT ON TABLE hop_hours IS
    'Per hop from a caller to an operation of a callee and hour.';
COMMENT ON COLUMN hop_hours.start_time IS 'Start of the hour.';
COMMENT ON COLUMN hop_hours.spans IS 'Spans that were seen.';
COMMENT ON COLUMN hop_hours.count_milli IS 'Spans that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN hop_hours.error_milli IS 'Of these, with status Error.';
COMMENT ON COLUMN hop_hours.caller IS 'Service that called.';
COMMENT ON COLUMN hop_hours.callee IS 'Service, database, queue or peer that was called.';
COMMENT ON COLUMN hop_hours.operation IS 'Span name on the callee''s side.';
COMMENT ON COLUMN hop_hours.duration_buckets IS 'Histogram of durations (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN hop_hours.duration_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN hop_hours.gap_buckets IS 'Histogram of network gaps (ns): bucket indexes, ascending; histogram_bucket_middle gives their values.';
COMMENT ON COLUMN hop_hours.gap_counts IS 'Counts of those buckets, in thousandths of a span.';
COMMENT ON COLUMN hop_hours.slowest_trace_id IS 'A slow trace of this time, or null.';
COMMENT ON COLUMN hop_hours.failed_trace_id IS 'A failed trace of this time, or null.';

INSERT INTO day_tables VALUES
    ('operation_windows', 'statistics'), ('operation_minutes', 'statistics'),
    ('hop_windows', 'statistics'), ('hop_minutes', 'statistics')
ON CONFLICT DO NOTHING;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    operation_windows, operation_minutes, operation_hours,
    hop_windows, hop_minutes, hop_hours
TO tracewatch_writer;
GRANT SELECT ON
    operation_windows, operation_minutes, operation_hours,
    hop_windows, hop_minutes, hop_hours
TO tracewatch_reader;
