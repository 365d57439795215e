"""Instrumentation that a service installs and imports: spans to Kafka, in OTLP.

    import tracewatch
    tracewatch.configure(service_name="quotes")

Middleware lives in ``tracewatch.flask``, ``tracewatch.asgi`` and
``tracewatch.wsgi``; the door for other languages in ``tracewatch.gateway``.
"""

from tracewatch.clients import instrument_aiohttp_client, instrument_httpx, instrument_requests
from tracewatch.configuration import configure, flush
from tracewatch.exporter import KafkaSpanExporter
from tracewatch.functions import add_metadata, trace_function
from tracewatch.logs import TraceContextFilter
from tracewatch.messaging import instrument_aiokafka, message_span

__all__ = [
    "KafkaSpanExporter",
    "TraceContextFilter",
    "add_metadata",
    "configure",
    "flush",
    "instrument_aiohttp_client",
    "instrument_aiokafka",
    "instrument_httpx",
    "instrument_requests",
    "message_span",
    "trace_function",
]
