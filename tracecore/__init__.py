"""The language of traces: what a span, a trace, a window, a finding and an alert are, and the algebra on them.

Pure: no clock, no network, no database, and no import of a room. Every room speaks this language;
nothing but topics and tables connects them.
"""
