"""Tracing for any WSGI application."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, TracerProvider

from tracewatch.configuration import SCOPE, server_tracer
from tracewatch.http_server import (
    TRACE_ID_HEADER,
    Attributes,
    path_filter,
    redacted,
    set_exception,
    set_response,
    set_route,
    start_server_span,
)
from tracewatch.propagation import extractor

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ENVIRON_NAMES = {
    name: "HTTP_" + name.upper().replace("-", "_")
    for name in (
        "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags",
        "x-trace-id", "x-span-id",
    )
}  # fmt: skip

RouteOf = Callable[["WSGIEnvironment"], str | None]


class TracingMiddleware:
    """A WSGI application that traces another one.

    Each request is a SERVER span from the call until the body is closed; a
    streaming body runs inside it. ``excluded_paths`` are glob patterns of paths
    that are not traced. ``route_of`` reads the route template that the framework
    left in the environ. ``tracer_provider`` defaults to ``tracewatch.configure``'s.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        service_name: str | None = None,
        *,
        excluded_paths: Iterable[str] = (),
        route_of: RouteOf | None = None,
        propagator: TextMapPropagator | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self.app = app
        self._tracer = tracer_provider.get_tracer(SCOPE) if tracer_provider else server_tracer(service_name)
        self._excluded: re.Pattern[str] | None = path_filter(excluded_paths)
        self._route_of = route_of
        self._extract = extractor(propagator)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if self._excluded is not None and self._excluded.match(path):
            return self.app(environ, start_response)

        def values(name: str) -> Sequence[str]:
            value = environ.get(_ENVIRON_NAMES.get(name) or "HTTP_" + name.upper().replace("-", "_"))
            return (value,) if value is not None else ()

        parent = self._extract(values, context_api.get_current())
        method = environ.get("REQUEST_METHOD", "")
        span = start_server_span(self._tracer, method, parent, _request_attributes(environ, path))
        trace_id = f"{span.get_span_context().trace_id:032x}"

        def answer(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            if status[:3].isdigit():
                set_response(span, int(status[:3]))
            return start_response(status, [*headers, (TRACE_ID_HEADER, trace_id)], *exc_info)

        inside = trace.set_span_in_context(span, parent)
        token = context_api.attach(inside)
        try:
            body = self.app(environ, answer)
        except BaseException as error:
            self._name(span, method, environ)
            set_exception(span, error)
            span.end()
            raise
        finally:
            context_api.detach(token)
        self._name(span, method, environ)
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(body, list | tuple) or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
            # Complete already, or a file that the server recognises by its type and sends by itself.
            span.end()
            return body
        return _TracedBody(body, span, inside)

    def _name(self, span: Span, method: str, environ: "WSGIEnvironment") -> None:
        if self._route_of is not None and (route := self._route_of(environ)):
            set_route(span, method, route)


class _TracedBody:
    """A response body that makes the span current while a chunk is made, and ends it after the last one."""

    __slots__ = ("_body", "_chunks", "_context", "_span")

    def __init__(self, body: Iterable[bytes], span: Span, context: Context) -> None:
        self._body = body
        self._chunks: Iterator[bytes] = iter(body)
        self._span = span
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = context_api.attach(self._context)
        try:
            return next(self._chunks)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            set_exception(self._span, error)
            raise
        finally:
            context_api.detach(token)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                token = context_api.attach(self._context)
                try:
                    close()
                finally:
                    context_api.detach(token)
        finally:
            self._end()

    def _end(self) -> None:
        # Exhausted, closed, or both: a span ends once.
        if self._span.is_recording():
            self._span.end()

    def __enter__(self) -> "_TracedBody":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _request_attributes(environ: "WSGIEnvironment", path: str) -> Attributes:
    get = environ.get
    if not path.isascii():
        # PEP 3333: bytes of the path, read as Latin-1.
        path = path.encode("latin-1", "replace").decode("utf-8", "replace")
    attributes: Attributes = {
        "url.path": (get("SCRIPT_NAME") or "") + path,
        "url.scheme": get("wsgi.url_scheme", "http"),
    }
    if query := get("QUERY_STRING"):
        attributes["url.query"] = redacted(query)
    host, _, port = (get("HTTP_HOST") or get("SERVER_NAME") or "").partition(":")
    attributes["server.address"] = host
    port = port or get("SERVER_PORT") or ""
    if port.isdigit():
        attributes["server.port"] = int(port)
    client = get("HTTP_X_FORWARDED_FOR") or get("REMOTE_ADDR")
    if client:
        attributes["client.address"] = client.partition(",")[0].strip()
    if agent := get("HTTP_USER_AGENT"):
        attributes["user_agent.original"] = agent
    protocol = get("SERVER_PROTOCOL", "")
    if protocol.startswith("HTTP/"):
        attributes["network.protocol.version"] = protocol[5:]
    return attributes
