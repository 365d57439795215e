-- service_traces, trace_spans, service_dependencies: the spans, who called whom, and the graph of services.

CREATE TABLE IF NOT EXISTS service_traces (
    start_time timestamptz NOT NULL,
    start_ns bigint NOT NULL,
    duration_ns bigint NOT NULL,
    self_time_ns bigint NOT NULL,
    critical_path_ns bigint NOT NULL,
    skew_ns bigint NOT NULL,
    gap_ns bigint,
    resource_id bigint NOT NULL,
    scope_id bigint NOT NULL,
    depth integer NOT NULL,
    kind smallint NOT NULL,
    status smallint NOT NULL,
    trace_id bytea NOT NULL,
    span_id bytea NOT NULL,
    parent_span_id bytea,
    tree_parent_id bytea,
    service text NOT NULL,
    operation text NOT NULL,
    status_message text,
    error_type text,
    warnings text[],
    attributes jsonb NOT NULL,
    events jsonb,
    links jsonb,
    raw bytea NOT NULL,
    PRIMARY KEY (trace_id, span_id, start_time)
) PARTITION BY RANGE (start_time);
CREATE INDEX IF NOT EXISTS service_traces_by_service ON service_traces (service, start_time);

COMMENT ON TABLE service_traces IS 'Spans, a row each, with what the analysis of their trace found. A partition a day (UTC), by start_time.';
COMMENT ON COLUMN service_traces.start_time IS 'When the span began, as sent, to the microsecond.';
COMMENT ON COLUMN service_traces.start_ns IS 'The same in Unix nanoseconds, exact.';
COMMENT ON COLUMN service_traces.duration_ns IS 'End minus start as sent; negative where the sender''s clock was set back.';
COMMENT ON COLUMN service_traces.self_time_ns IS 'Nanoseconds that no child covers.';
COMMENT ON COLUMN service_traces.critical_path_ns IS 'The span''s own part of the trace''s critical path, nanoseconds.';
COMMENT ON COLUMN service_traces.skew_ns IS 'Add to start_ns to see it on the root''s clock.';
COMMENT ON COLUMN service_traces.gap_ns IS 'On a server''s span: what its client''s span lasted longer, the network and queues; null where there is no client.';
COMMENT ON COLUMN service_traces.resource_id IS 'Row of resources. Not a foreign key: a check a span would cost more than it guards.';
COMMENT ON COLUMN service_traces.scope_id IS 'Row of scopes.';
COMMENT ON COLUMN service_traces.depth IS 'Steps from the root in the tree; the root has 0.';
COMMENT ON COLUMN service_traces.kind IS 'OTLP: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.';
COMMENT ON COLUMN service_traces.status IS 'OTLP: 0 unset, 1 ok, 2 error.';
COMMENT ON COLUMN service_traces.trace_id IS '16 bytes.';
COMMENT ON COLUMN service_traces.span_id IS '8 bytes, unique in the trace. Where both sides of a call sent one id (Zipkin), the server has a derived one; raw has what was sent.';
COMMENT ON COLUMN service_traces.parent_span_id IS 'As sent; null for a root.';
COMMENT ON COLUMN service_traces.tree_parent_id IS 'Where the span hangs in the tree: an orphan hangs under the root; null for the root.';
COMMENT ON COLUMN service_traces.service IS 'service.name of the resource.';
COMMENT ON COLUMN service_traces.operation IS 'Span name.';
COMMENT ON COLUMN service_traces.status_message IS 'Message of the status; null where there is none.';
COMMENT ON COLUMN service_traces.error_type IS 'Of a span with status error: error.type, else the exception''s type, else the status code of the protocol, else "error".';
COMMENT ON COLUMN service_traces.warnings IS 'What was repaired or is odd about the span; null where nothing.';
COMMENT ON COLUMN service_traces.attributes IS 'All attributes of the span; bytes as base64, NaN and infinities as text.';
COMMENT ON COLUMN service_traces.events IS 'Events: [{"name", "time_ns", "attributes"}]; null where there are none.';
COMMENT ON COLUMN service_traces.links IS 'Links: [{"trace_id", "span_id", "attributes"}], ids in hex; null where there are none.';
COMMENT ON COLUMN service_traces.raw IS 'OTLP Span message, byte for byte: what a replay of history sends.';

CREATE OR REPLACE VIEW trace_spans AS
SELECT trace_id, tree_parent_id AS parent_span_id, span_id AS child_span_id, kind AS child_kind,
       service AS child_service, operation AS child_operation, depth AS child_depth, start_time AS child_start_time
FROM service_traces
WHERE tree_parent_id IS NOT NULL;
COMMENT ON VIEW trace_spans IS 'Parent and child of each step in the trees. A view: service_traces holds the relation already.';
COMMENT ON COLUMN trace_spans.trace_id IS '16 bytes.';
COMMENT ON COLUMN trace_spans.parent_span_id IS 'Span id of the parent in the tree.';
COMMENT ON COLUMN trace_spans.child_span_id IS 'Span id of the child.';
COMMENT ON COLUMN trace_spans.child_kind IS 'Kind of the child, as in service_traces.';
COMMENT ON COLUMN trace_spans.child_service IS 'Service of the child.';
COMMENT ON COLUMN trace_spans.child_operation IS 'Span name of the child.';
COMMENT ON COLUMN trace_spans.child_depth IS 'Steps from the root to the child.';
COMMENT ON COLUMN trace_spans.child_start_time IS 'Start of the child: bound it, and other days are not read.';

CREATE TABLE IF NOT EXISTS service_dependencies (
    start_time timestamptz NOT NULL,
    calls bigint NOT NULL,
    errors bigint NOT NULL,
    calls_milli bigint NOT NULL,
    errors_milli bigint NOT NULL,
    duration_ns bigint NOT NULL,
    gap_ns bigint NOT NULL,
    gap_calls bigint NOT NULL,
    caller text NOT NULL,
    callee text NOT NULL,
    callee_type text NOT NULL,
    PRIMARY KEY (start_time, caller, callee, callee_type)
) PARTITION BY RANGE (start_time);
COMMENT ON TABLE service_dependencies IS
    'Calls from service to service, a row a minute: sum over a range for its graph. A partition a day (UTC).';
COMMENT ON COLUMN service_dependencies.start_time IS 'The minute in which the traces began.';
COMMENT ON COLUMN service_dependencies.calls IS 'Calls that were seen.';
COMMENT ON COLUMN service_dependencies.errors IS 'Calls that failed.';
COMMENT ON COLUMN service_dependencies.calls_milli IS 'Calls that happened, in thousandths, by head sampling.';
COMMENT ON COLUMN service_dependencies.errors_milli IS 'Failed calls that happened, in thousandths.';
COMMENT ON COLUMN service_dependencies.duration_ns IS 'Sum of the callers'' spans.';
COMMENT ON COLUMN service_dependencies.gap_ns IS 'Sum, over gap_calls, of what the caller''s span lasted longer than the callee''s: the network.';
COMMENT ON COLUMN service_dependencies.gap_calls IS 'Calls of which both sides sent a span.';
COMMENT ON COLUMN service_dependencies.caller IS 'Service that called.';
COMMENT ON COLUMN service_dependencies.callee IS 'Service, database, queue or peer that was called.';
COMMENT ON COLUMN service_dependencies.callee_type IS 'What the callee is: service, database, messaging or external.';

INSERT INTO day_tables VALUES ('service_traces', 'spans'), ('service_dependencies', 'statistics') ON CONFLICT DO NOTHING;
GRANT SELECT, INSERT, UPDATE, DELETE ON service_traces, service_dependencies TO tracewatch_writer;
GRANT SELECT ON trace_spans TO tracewatch_writer;
GRANT SELECT ON service_traces, trace_spans, service_dependencies TO tracewatch_reader;
