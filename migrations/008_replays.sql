-- Replays: what was repeated, how far it came, and what it changed. Written by the replay room.

CREATE TABLE IF NOT EXISTS replays (
    replay_id text PRIMARY KEY,
    name text NOT NULL,
    source text NOT NULL,
    from_time timestamptz,
    until_time timestamptz,
    request text[] NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'interrupted', 'cancelled', 'draining', 'done', 'failed')),
    position bigint NOT NULL DEFAULT 0,
    produced jsonb NOT NULL DEFAULT '{}',
    records bigint NOT NULL DEFAULT 0,
    spans bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    traces_new bigint,
    traces_amended bigint,
    traces_unchanged bigint,
    alerts bigint,
    failure text NOT NULL DEFAULT '',
    cancel_requested boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE replays IS 'Replays, a row each.';
COMMENT ON COLUMN replays.replay_id IS 'In the header of every record of the replay, and in the replay_id of alerts that it raised.';
COMMENT ON COLUMN replays.name IS 'What the person called it, or its id.';
COMMENT ON COLUMN replays.source IS 'What was repeated: topic:NAME, otlp:FILE, jaeger:FILE, zipkin:FILE or history.';
COMMENT ON COLUMN replays.from_time IS 'Start of the stretch, by arrival; null: from the beginning.';
COMMENT ON COLUMN replays.until_time IS 'End of the stretch, exclusive; null: to what was there at its start.';
COMMENT ON COLUMN replays.request IS 'What its command line asked for, with times made absolute: a resumed replay asks for the same.';
COMMENT ON COLUMN replays.state IS 'running, interrupted (may be resumed), cancelled, draining (all is sent, not all is stored), done, failed.';
COMMENT ON COLUMN replays.position IS 'Records of the source that were sent and acknowledged: where a resumed replay starts.';
COMMENT ON COLUMN replays.produced IS 'Per partition of the replay topic, the next offset at that position: what stands after it was sent since.';
COMMENT ON COLUMN replays.records IS 'Records read so far.';
COMMENT ON COLUMN replays.spans IS 'Spans sent so far.';
COMMENT ON COLUMN replays.unreadable IS 'Records and spans that could not be read.';
COMMENT ON COLUMN replays.traces_new IS 'Traces that the history did not have before; null until it is done.';
COMMENT ON COLUMN replays.traces_amended IS 'Traces that the history had, and had otherwise.';
COMMENT ON COLUMN replays.traces_unchanged IS 'Traces that the history had just so.';
COMMENT ON COLUMN replays.alerts IS 'Alert episodes that the stretch raised.';
COMMENT ON COLUMN replays.failure IS 'Why it failed.';
COMMENT ON COLUMN replays.cancel_requested IS 'Somebody asked it to stop.';
COMMENT ON COLUMN replays.started_at IS 'When it was started first.';
COMMENT ON COLUMN replays.updated_at IS 'When it last came on.';

CREATE TABLE IF NOT EXISTS replay_traces (
    replay_id text NOT NULL REFERENCES replays ON DELETE CASCADE,
    trace_id bytea NOT NULL,
    before bytea,
    PRIMARY KEY (replay_id, trace_id)
);

COMMENT ON TABLE replay_traces IS 'The traces of replays that are under way, as the history had them before; emptied when a replay is done.';
COMMENT ON COLUMN replay_traces.replay_id IS 'The replay.';
COMMENT ON COLUMN replay_traces.trace_id IS 'The trace, 16 bytes.';
COMMENT ON COLUMN replay_traces.before IS 'Hash of the stored analysis before the replay; null: the history did not have it.';

GRANT SELECT, INSERT, UPDATE, DELETE ON replays, replay_traces TO tracewatch_writer;
GRANT SELECT ON replays, replay_traces TO tracewatch_reader;
