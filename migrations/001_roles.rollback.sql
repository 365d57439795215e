-- The roles stay: they belong to the whole server, and other databases may use them.
REVOKE USAGE ON SCHEMA public FROM tracewatch_writer, tracewatch_reader;
