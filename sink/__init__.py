"""History is kept: what the stream says goes to Postgres, nothing twice and nothing lost."""
