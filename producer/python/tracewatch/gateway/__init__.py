"""The door for every other language: OTLP/HTTP and Zipkin JSON to Kafka. ``python -m tracewatch.gateway``."""
