-- A row a trace. Not cut into days: a trace id is unique over all time, and only an index on the id alone can hold that law.

CREATE TABLE IF NOT EXISTS traces (
    trace_id bytea PRIMARY KEY,
    start_time timestamptz NOT NULL,
    start_ns bigint NOT NULL,
    duration_ns bigint NOT NULL,
    spans_from timestamptz NOT NULL,
    spans_until timestamptz NOT NULL,
    first_arrival_ns bigint NOT NULL,
    last_arrival_ns bigint NOT NULL,
    count_milli bigint NOT NULL,
    revision integer NOT NULL,
    span_count integer NOT NULL,
    error_count integer NOT NULL,
    duplicate_count integer NOT NULL,
    missing_parents integer NOT NULL,
    missing_root boolean NOT NULL,
    is_complete boolean NOT NULL,
    reason text NOT NULL,
    root_service text NOT NULL,
    root_operation text NOT NULL,
    root_span_id bytea NOT NULL,
    error_origin bytea,
    error_service text,
    services text[] NOT NULL,
    warnings text[] NOT NULL,
    critical_path jsonb NOT NULL,
    links jsonb NOT NULL,
    sampled_by text NOT NULL,
    replay_id text NOT NULL,
    digest bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS traces_by_time ON traces (start_time);
CREATE INDEX IF NOT EXISTS traces_by_root ON traces (root_service, start_time);

COMMENT ON TABLE traces IS 'Closed traces, a row each: the newest and most complete revision.';
COMMENT ON COLUMN traces.trace_id IS '16 bytes; encode(trace_id, ''hex'') is what people see.';
COMMENT ON COLUMN traces.start_time IS 'First start, on the root''s clock, to the microsecond.';
COMMENT ON COLUMN traces.start_ns IS 'The same in Unix nanoseconds, exact.';
COMMENT ON COLUMN traces.duration_ns IS 'From the first start to the last end, on the root''s clock.';
COMMENT ON COLUMN traces.spans_from IS 'Earliest start_time of its rows in service_traces: bound a join with these two, and other days are not read.';
COMMENT ON COLUMN traces.spans_until IS 'Latest start_time of its rows in service_traces.';
COMMENT ON COLUMN traces.first_arrival_ns IS 'When its first span reached Kafka, by the broker''s clock, Unix nanoseconds.';
COMMENT ON COLUMN traces.last_arrival_ns IS 'When its last span reached Kafka.';
COMMENT ON COLUMN traces.count_milli IS 'How many traces this one stands for, in thousandths, by head sampling.';
COMMENT ON COLUMN traces.revision IS 'Which revision of the stream this is; 1 is the first.';
COMMENT ON COLUMN traces.span_count IS 'Spans in the trace.';
COMMENT ON COLUMN traces.error_count IS 'Spans with status Error.';
COMMENT ON COLUMN traces.duplicate_count IS 'Spans that arrived again and were dropped.';
COMMENT ON COLUMN traces.missing_parents IS 'Parents that are named by spans and did not arrive.';
COMMENT ON COLUMN traces.missing_root IS 'No root arrived.';
COMMENT ON COLUMN traces.is_complete IS 'The root and every named parent arrived.';
COMMENT ON COLUMN traces.reason IS 'Why the revision was made: complete, idle, max_age, max_spans or late.';
COMMENT ON COLUMN traces.root_service IS 'Service of the root.';
COMMENT ON COLUMN traces.root_operation IS 'Span name of the root.';
COMMENT ON COLUMN traces.root_span_id IS 'Span id of the root, 8 bytes.';
COMMENT ON COLUMN traces.error_origin IS 'Span id of the deepest span that failed first; null without errors.';
COMMENT ON COLUMN traces.error_service IS 'Service of that span.';
COMMENT ON COLUMN traces.services IS 'Services that took part.';
COMMENT ON COLUMN traces.warnings IS 'What was odd about the trace as a whole.';
COMMENT ON COLUMN traces.critical_path IS 'Segments [span id in hex, start_ns, end_ns] on the root''s clock; they touch and sum to the root''s duration.';
COMMENT ON COLUMN traces.links IS 'Calls between services: [caller, callee, callee type, calls, errors, duration_ns, gap_ns, gap_calls].';
COMMENT ON COLUMN traces.sampled_by IS 'The rule of tail sampling that kept it, or empty.';
COMMENT ON COLUMN traces.replay_id IS 'The replay that wrote this revision, or empty.';
COMMENT ON COLUMN traces.digest IS 'Hash of the revision as it came: the same revision, read again, is known by it. Empty where the sink recomputed.';
COMMENT ON COLUMN traces.stored_at IS 'When this row was written.';

GRANT SELECT, INSERT, UPDATE, DELETE ON traces TO tracewatch_writer;
GRANT SELECT ON traces TO tracewatch_reader;
