-- What was wrong: alerts, the health of services, and groups of errors.

CREATE TABLE IF NOT EXISTS alerts (
    fingerprint text NOT NULL,
    starts_at_ns bigint NOT NULL,
    replay_id text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    updated_at timestamptz NOT NULL,
    detected_at timestamptz NOT NULL,
    resolved_at timestamptz,
    updated_at_ns bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('firing', 'resolved')),
    alertname text NOT NULL,
    service text NOT NULL,
    operation text NOT NULL,
    severity text NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    evidence jsonb NOT NULL,
    PRIMARY KEY (fingerprint, starts_at_ns, replay_id)
);
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (starts_at);
CREATE INDEX IF NOT EXISTS alerts_firing ON alerts (service) WHERE status = 'firing';
COMMENT ON TABLE alerts IS 'Alerts, a row an episode: from firing to resolved.';
COMMENT ON COLUMN alerts.fingerprint IS 'Hash of the labels: the same for every episode of the same alert.';
COMMENT ON COLUMN alerts.starts_at_ns IS 'starts_at in Unix nanoseconds, exact; with fingerprint it names the episode.';
COMMENT ON COLUMN alerts.replay_id IS 'The replay that raised it; empty for live ones.';
COMMENT ON COLUMN alerts.starts_at IS 'When the trouble began, event time.';
COMMENT ON COLUMN alerts.ends_at IS 'When it ended, event time; null while it fires.';
COMMENT ON COLUMN alerts.updated_at IS 'Event time of the newest event of the episode.';
COMMENT ON COLUMN alerts.detected_at IS 'When the pipeline first raised it, by its own clock.';
COMMENT ON COLUMN alerts.resolved_at IS 'When the pipeline resolved it, by its own clock; null while it fires.';
COMMENT ON COLUMN alerts.updated_at_ns IS 'updated_at in Unix nanoseconds, exact: an older event never overwrites a newer one.';
COMMENT ON COLUMN alerts.status IS 'firing or resolved.';
COMMENT ON COLUMN alerts.alertname IS 'Label alertname: which rule.';
COMMENT ON COLUMN alerts.service IS 'Label service: the cause, as far as it is known.';
COMMENT ON COLUMN alerts.operation IS 'Label operation, or empty.';
COMMENT ON COLUMN alerts.severity IS 'Label severity: info, warning or critical.';
COMMENT ON COLUMN alerts.labels IS 'All labels; they identify the alert.';
COMMENT ON COLUMN alerts.annotations IS 'What explains it: summary, description, ...';
COMMENT ON COLUMN alerts.evidence IS 'Why it fired: {"observed", "baseline", "unit", "count", "sample_trace_ids"}.';

CREATE TABLE IF NOT EXISTS service_health (
    start_time timestamptz NOT NULL,
    score smallint NOT NULL CHECK (score BETWEEN 0 AND 100),
    service text NOT NULL,
    reasons jsonb NOT NULL,
    replay_id text NOT NULL DEFAULT '',
    PRIMARY KEY (service, start_time, replay_id)
);
CREATE INDEX IF NOT EXISTS service_health_by_time ON service_health (start_time);
COMMENT ON TABLE service_health IS 'Health of services, a row a window.';
COMMENT ON COLUMN service_health.start_time IS 'Start of the window.';
COMMENT ON COLUMN service_health.score IS '0 (down) to 100 (well).';
COMMENT ON COLUMN service_health.service IS 'Service.';
COMMENT ON COLUMN service_health.reasons IS 'What cost points: [{"reason", "points", ...}].';
COMMENT ON COLUMN service_health.replay_id IS 'The replay that computed it; empty for live.';

CREATE TABLE IF NOT EXISTS error_groups (
    group_id text PRIMARY KEY,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    service text NOT NULL,
    operation text NOT NULL,
    error_type text NOT NULL,
    message text NOT NULL,
    last_trace_id bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS error_groups_by_time ON error_groups (last_seen);
COMMENT ON TABLE error_groups IS 'Error spans that are alike: same service, operation and error type.';
COMMENT ON COLUMN error_groups.group_id IS '16 hex digits, a hash of service, operation and error type.';
COMMENT ON COLUMN error_groups.first_seen IS 'Start of the first such span.';
COMMENT ON COLUMN error_groups.last_seen IS 'Start of the newest such span.';
COMMENT ON COLUMN error_groups.service IS 'Service of the spans.';
COMMENT ON COLUMN error_groups.operation IS 'Span name.';
COMMENT ON COLUMN error_groups.error_type IS 'As in service_traces.';
COMMENT ON COLUMN error_groups.message IS 'Message of the newest such span, or empty.';
COMMENT ON COLUMN error_groups.last_trace_id IS 'Trace of the newest such span: a sample.';

CREATE TABLE IF NOT EXISTS error_group_minutes (
    start_time timestamptz NOT NULL,
    errors bigint NOT NULL,
    origins bigint NOT NULL,
    group_id text NOT NULL,
    PRIMARY KEY (group_id, start_time)
) PARTITION BY RANGE (start_time);
COMMENT ON TABLE error_group_minutes IS 'How often a group of errors happened, a row a minute. A partition a day (UTC).';
COMMENT ON COLUMN error_group_minutes.start_time IS 'The minute in which the spans began.';
COMMENT ON COLUMN error_group_minutes.errors IS 'Error spans of the group.';
COMMENT ON COLUMN error_group_minutes.origins IS 'Of these, the ones where a trace''s error began; the others only passed it on.';
COMMENT ON COLUMN error_group_minutes.group_id IS 'Row of error_groups.';

INSERT INTO day_tables VALUES ('error_group_minutes', 'statistics') ON CONFLICT DO NOTHING;
GRANT SELECT, INSERT, UPDATE, DELETE ON alerts, service_health, error_groups, error_group_minutes TO tracewatch_writer;
GRANT SELECT ON alerts, service_health, error_groups, error_group_minutes TO tracewatch_reader;
