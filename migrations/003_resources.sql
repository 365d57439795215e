-- Who made spans, once each: thousands of spans share a resource and a scope.

CREATE TABLE IF NOT EXISTS resources (
    resource_id bigint PRIMARY KEY,
    service text NOT NULL,
    attributes jsonb NOT NULL,
    schema_url text NOT NULL,
    raw bytea NOT NULL,
    last_used date NOT NULL
);
COMMENT ON TABLE resources IS 'OTLP resources: the processes and hosts that made spans.';
COMMENT ON COLUMN resources.resource_id IS 'Hash of raw and schema_url: equal resources have one row.';
COMMENT ON COLUMN resources.service IS 'Attribute service.name.';
COMMENT ON COLUMN resources.attributes IS 'All attributes of the resource.';
COMMENT ON COLUMN resources.schema_url IS 'Schema URL as sent, or empty.';
COMMENT ON COLUMN resources.raw IS 'OTLP Resource message, byte for byte.';
COMMENT ON COLUMN resources.last_used IS 'Latest day (UTC) of a span that has it; retention goes by it.';

CREATE TABLE IF NOT EXISTS scopes (
    scope_id bigint PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    attributes jsonb NOT NULL,
    schema_url text NOT NULL,
    raw bytea NOT NULL,
    last_used date NOT NULL
);
COMMENT ON TABLE scopes IS 'OTLP instrumentation scopes: the libraries that made spans.';
COMMENT ON COLUMN scopes.scope_id IS 'Hash of raw and schema_url: equal scopes have one row.';
COMMENT ON COLUMN scopes.name IS 'Name of the library, or empty.';
COMMENT ON COLUMN scopes.version IS 'Version of the library, or empty.';
COMMENT ON COLUMN scopes.attributes IS 'All attributes of the scope.';
COMMENT ON COLUMN scopes.schema_url IS 'Schema URL as sent, or empty.';
COMMENT ON COLUMN scopes.raw IS 'OTLP InstrumentationScope message, byte for byte.';
COMMENT ON COLUMN scopes.last_used IS 'Latest day (UTC) of a span that has it; retention goes by it.';

GRANT SELECT, INSERT, UPDATE, DELETE ON resources, scopes TO tracewatch_writer;
GRANT SELECT ON resources, scopes TO tracewatch_reader;
