DELETE FROM day_tables WHERE table_name IN ('service_traces', 'service_dependencies');
DROP TABLE IF EXISTS service_dependencies;
DROP VIEW IF EXISTS trace_spans;
DROP TABLE IF EXISTS service_traces;
