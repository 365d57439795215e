-- Back-tests: which alerts a stretch of history raises under other rules. Written by the replay room when one has ended.

CREATE TABLE IF NOT EXISTS backtests (
    backtest_id text PRIMARY KEY,
    rules text NOT NULL,
    source text NOT NULL,
    from_time timestamptz,
    until_time timestamptz,
    episodes jsonb NOT NULL,
    tried_score text NOT NULL DEFAULT '',
    in_force_score text NOT NULL DEFAULT '',
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

COMMENT ON TABLE backtests IS 'Back-tests that have ended, a row each. Their alerts are nowhere but here.';
COMMENT ON COLUMN backtests.backtest_id IS 'Its name.';
COMMENT ON COLUMN backtests.rules IS 'Name of the file of rules that was tried.';
COMMENT ON COLUMN backtests.source IS 'What was repeated, as in replays.source.';
COMMENT ON COLUMN backtests.from_time IS 'Start of the stretch, by arrival; null: from the beginning.';
COMMENT ON COLUMN backtests.until_time IS 'End of the stretch, exclusive; null: to the end.';
COMMENT ON COLUMN backtests.episodes IS
    'Alerts, oldest first: [{"under": "both", "tried" or "in_force", "labels", "summary", "starts_at_ns", "ends_at_ns" or null, "evidence"}].';
COMMENT ON COLUMN backtests.tried_score IS 'How well the tried rules name labelled faults, in words; empty without labels.';
COMMENT ON COLUMN backtests.in_force_score IS 'The same of the rules in force.';
COMMENT ON COLUMN backtests.finished_at IS 'When it ended.';

GRANT SELECT, INSERT, UPDATE, DELETE ON backtests TO tracewatch_writer;
GRANT SELECT ON backtests TO tracewatch_reader;
