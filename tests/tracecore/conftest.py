"""Hypothesis on shared machines: no deadline an example, fewer examples."""

from hypothesis import settings

settings.register_profile("tracewatch", deadline=None, max_examples=60)
settings.load_profile("tracewatch")
