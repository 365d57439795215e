-- Two roles without login. Give them to the users that the rooms log in as:
--   GRANT tracewatch_writer TO sink_user;  GRANT tracewatch_reader TO dashboard_user, live_api_user;
-- Roles belong to the whole server, so another database, or another process at this moment, may have made them.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tracewatch_writer', 'tracewatch_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'role % does not exist and % may not create roles', wanted, current_user
                        USING HINT = 'Ask an administrator to run: CREATE ROLE ' || wanted || ' NOLOGIN';
            END;
        END IF;
    END LOOP;
END
$$;

COMMENT ON ROLE tracewatch_writer IS 'Tracewatch: what the sink may do. Reads and writes the history, changes no schema.';
COMMENT ON ROLE tracewatch_reader IS 'Tracewatch: what the dashboard and live_api may do. Reads the history.';

GRANT USAGE ON SCHEMA public TO tracewatch_writer, tracewatch_reader;
