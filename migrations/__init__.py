"""The schema of the history: plain SQL in order, and a runner.

Each ``NNN_name.sql`` can be run by ``psql -f`` in the order of its number; ``NNN_name.rollback.sql`` takes it back.
"""
