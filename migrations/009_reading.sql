-- Indexes for pages that look at a stretch of time over all services: without them each would read whole days, or wide rows.

-- Counts, dots and delays of a page's range come from this index alone.
CREATE INDEX IF NOT EXISTS traces_by_time_covering ON traces (start_time) INCLUDE (
    trace_id, duration_ns, error_count, span_count, is_complete, missing_root, missing_parents, duplicate_count, reason,
    last_arrival_ns, stored_at, replay_id
);
DROP INDEX IF EXISTS traces_by_time;

CREATE INDEX IF NOT EXISTS operation_minutes_by_time ON operation_minutes (start_time);
CREATE INDEX IF NOT EXISTS hop_minutes_by_time ON hop_minutes (start_time);

-- Spans are stored about in the order of their time: a summary a megabyte finds an hour, and costs a writer next to nothing.
CREATE INDEX IF NOT EXISTS service_traces_by_time ON service_traces USING brin (start_time)
    WITH (pages_per_range = 128, autosummarize = on);
