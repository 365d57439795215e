"""The schema of the history: plain SQL in order, and a runner."""
