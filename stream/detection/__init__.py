"""What is wrong, where, since when: findings from spans, traces and windows."""
