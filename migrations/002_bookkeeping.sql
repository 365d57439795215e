-- What the sink must know to write nothing twice, and which tables are cut into days.

CREATE TABLE IF NOT EXISTS sink_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE sink_offsets IS
    'How far each Kafka partition is stored. Changed in the transaction that stores the rows, so the two never differ.';
COMMENT ON COLUMN sink_offsets.topic IS 'Kafka topic.';
COMMENT ON COLUMN sink_offsets.partition IS 'Partition of the topic.';
COMMENT ON COLUMN sink_offsets.next_offset IS 'Offset of the first record that is not stored yet; the sink seeks to it.';
COMMENT ON COLUMN sink_offsets.updated_at IS 'When this was changed.';

CREATE TABLE IF NOT EXISTS day_tables (
    table_name text PRIMARY KEY,
    kept_as text NOT NULL CHECK (kept_as IN ('spans', 'statistics'))
);
COMMENT ON TABLE day_tables IS 'The tables that have a partition a day.';
COMMENT ON COLUMN day_tables.table_name IS 'Name of the partitioned table.';
COMMENT ON COLUMN day_tables.kept_as IS 'Which retention applies: of spans, or of statistics.';

CREATE TABLE IF NOT EXISTS day_partitions (
    table_name text NOT NULL REFERENCES day_tables ON DELETE CASCADE,
    day date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (table_name, day)
);
COMMENT ON TABLE day_partitions IS 'The daily partitions that there are.';
COMMENT ON COLUMN day_partitions.table_name IS 'Name of the partitioned table.';
COMMENT ON COLUMN day_partitions.day IS 'The day (UTC) that the partition holds.';
COMMENT ON COLUMN day_partitions.created_at IS
    'When it was made. Retention counts from the later of day and this, so that an old day, loaded again, is kept as long.';

-- A partition is made beside its table and then attached: CREATE TABLE ... PARTITION OF would wait for, and stop, every reader.
CREATE OR REPLACE FUNCTION ensure_day_partitions(days date[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    made integer := 0;
    missing record;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tracewatch.day_partitions', 0));
    FOR missing IN
        SELECT t.table_name, d.day
        FROM day_tables t CROSS JOIN (SELECT DISTINCT unnest(days) AS day) d
        WHERE NOT EXISTS (SELECT FROM day_partitions p WHERE p.table_name = t.table_name AND p.day = d.day)
        ORDER BY d.day, t.table_name
    LOOP
        child := missing.table_name || '_' || to_char(missing.day, 'YYYYMMDD');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', child, missing.table_name);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            missing.table_name, child, missing.day || ' 00:00:00+00', (missing.day + 1) || ' 00:00:00+00');
        INSERT INTO day_partitions (table_name, day) VALUES (missing.table_name, missing.day);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION ensure_day_partitions(date[]) IS
    'Make the partitions of these days, in every table that is cut into days, where they are missing. Returns how many.';

CREATE OR REPLACE FUNCTION drop_day_partition(table_name text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tracewatch.day_partitions', 0));
    DELETE FROM day_partitions p
    WHERE p.table_name = drop_day_partition.table_name AND p.day = drop_day_partition.day;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', table_name || '_' || to_char(day, 'YYYYMMDD'));
    RETURN true;
END
$$;
COMMENT ON FUNCTION drop_day_partition(text, date) IS 'Drop one day of one table; false if there is none.';

REVOKE ALL ON FUNCTION ensure_day_partitions(date[]), drop_day_partition(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_day_partitions(date[]), drop_day_partition(text, date) TO tracewatch_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON sink_offsets TO tracewatch_writer;
GRANT SELECT ON day_tables, day_partitions TO tracewatch_writer;
GRANT SELECT ON sink_offsets, day_tables, day_partitions TO tracewatch_reader;
