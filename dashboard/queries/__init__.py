"""Queries: SQL text with its parameters, and what its rows mean. Nothing here talks to a database."""
