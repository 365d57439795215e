"""Traces are understood: spans are routed, assembled and judged while they happen."""
