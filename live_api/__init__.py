"""Alerts are pushed, history is served."""
