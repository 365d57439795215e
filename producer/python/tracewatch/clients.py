"""Outgoing HTTP calls carry the trace: one call for each client library.

The spans are made by OpenTelemetry's own instrumentations, which do this well;
the headers they write are those of the configured propagator, ours.
"""

import os
from importlib import import_module
from typing import Any

from tracewatch.errors import MissingPackage


def instrument_requests(**options: Any) -> None:
    """Trace every call of ``requests``. Raises MissingPackage; ``options`` go to the instrumentation."""
    _instrument("opentelemetry.instrumentation.requests", "RequestsInstrumentor", "requests", options)


def instrument_httpx(**options: Any) -> None:
    """Trace every call of ``httpx``, sync and async. Raises MissingPackage; ``options`` go to the instrumentation."""
    _instrument("opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor", "httpx", options)


def instrument_aiohttp_client(**options: Any) -> None:
    """Trace aiohttp's ClientSessions from now on. Raises MissingPackage; ``options`` go to the instrumentation."""
    _instrument("opentelemetry.instrumentation.aiohttp_client", "AioHttpClientInstrumentor", "aiohttp", options)


def _instrument(module: str, name: str, extra: str, options: dict[str, Any]) -> None:
    # The stable names (http.request.method, url.full): what our server spans use, and what it reads in one second.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    try:
        instrumentor = getattr(import_module(module), name)()
    except ImportError as error:
        raise MissingPackage(module, extra) from error
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(**options)
