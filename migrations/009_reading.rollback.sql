DROP INDEX IF EXISTS service_traces_by_time;
DROP INDEX IF EXISTS hop_minutes_by_time;
DROP INDEX IF EXISTS operation_minutes_by_time;
CREATE INDEX IF NOT EXISTS traces_by_time ON traces (start_time);
DROP INDEX IF EXISTS traces_by_time_covering;
