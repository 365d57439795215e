"""Alerts are pushed, history is served: WebSocket and SSE feeds from Kafka, query APIs over Postgres."""
