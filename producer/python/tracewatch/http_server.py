"""Server spans by OpenTelemetry's HTTP semantic conventions, for any framework."""

import re
from collections.abc import Iterable
from fnmatch import translate

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from tracewatch.ids import named_trace_id
from tracewatch.propagation import named_trace

TRACE_ID_HEADER = "X-Trace-ID"

_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY"))
# Values the conventions name as credentials: signatures of AWS, Azure and Google URLs.
_SECRETS = re.compile(r"((?:^|&)(?:AWSAccessKeyId|Signature|sig|X-Goog-Signature)=)[^&]*")
_ERROR = Status(StatusCode.ERROR)

Attributes = dict[str, AttributeValue]


def start_server_span(tracer: Tracer, method: str, context: Context, attributes: Attributes) -> Span:
    """Start the SERVER span of a request; its name is the method until the route is known.

    ``attributes`` gets the method. The caller's context is the parent.
    """
    name = attributes["http.request.method"] = method
    if method not in _METHODS:
        attributes["http.request.method_original"] = method
        attributes["http.request.method"] = "_OTHER"
        name = "HTTP"
    trace_id = named_trace(context)
    if trace_id is None:
        return tracer.start_span(name, context, SpanKind.SERVER, attributes)
    token = named_trace_id.set(trace_id)
    try:
        return tracer.start_span(name, context, SpanKind.SERVER, attributes)
    finally:
        named_trace_id.reset(token)


def set_route(span: Span, method: str, route: str) -> None:
    """Name the span by its route template: few names, whatever the ids in the path."""
    span.update_name(f"{method if method in _METHODS else 'HTTP'} {route}")
    span.set_attribute("http.route", route)


def set_response(span: Span, status_code: int) -> None:
    """The answer: 5xx is the server's error, 4xx is the client's and leaves the status unset."""
    span.set_attribute("http.response.status_code", status_code)
    if status_code >= 500:
        span.set_attribute("error.type", str(status_code))
        span.set_status(_ERROR)


def set_exception(span: Span, error: BaseException) -> None:
    """An exception that left the handler: an event, the error type and the status. Never raises another."""
    kind = error_type(error)
    try:
        description = f"{type(error).__name__}: {error}"
        span.record_exception(error, escaped=True)
    except Exception:
        # Its __str__ fails; the service must see the exception itself, not ours about it.
        description = type(error).__name__
        span.add_event("exception", {"exception.type": kind, "exception.escaped": "True"})
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, description))


def redacted(query: str) -> str:
    """The query string without the credentials that the conventions name."""
    return _SECRETS.sub(r"\1REDACTED", query) if "ig" in query or "AWS" in query else query


def path_filter(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """One expression for glob patterns of paths (``/health``, ``/static/*``); None without any."""
    expressions = [translate(pattern) for pattern in patterns]
    return re.compile("|".join(expressions)) if expressions else None


def error_type(error: BaseException) -> str:
    """What ``error.type`` and ``exception.type`` call an exception."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
