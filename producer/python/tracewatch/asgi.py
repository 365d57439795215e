"""Tracing for ASGI applications: FastAPI, Starlette and others."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, TracerProvider

from tracewatch.configuration import SCOPE, flush, server_tracer
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

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# FastAPI from 0.16x on traces by itself once a provider is set, and marks the requests that it traces by this key.
_FASTAPI_TELEMETRY = "fastapi.telemetry"
# A request is one server span, however many of us it passes: an application and those mounted in it.
_TRACED = "tracewatch.traced"
_TRACE_ID_HEADER = TRACE_ID_HEADER.lower().encode()


class TracingMiddleware:
    """An ASGI application that traces another one's HTTP requests; websockets and lifespan pass through.

        app = FastAPI(telemetry={"tracing": False})
        app.add_middleware(TracingMiddleware, service_name="quotes")

    A request's span ends with the last part of its body: background tasks and
    what follows are not counted into it. ``excluded_paths`` are glob patterns of
    paths that are not traced. Where FastAPI traces by itself, its server span stays
    the only one, and the paths to exclude are its own. Sets tracing up if
    ``tracewatch.configure`` was not called.
    """

    def __init__(
        self,
        app: ASGIApp,
        service_name: str | None = None,
        *,
        excluded_paths: Iterable[str] = (),
        propagator: TextMapPropagator | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self.app = app
        self._tracer = tracer_provider.get_tracer(SCOPE) if tracer_provider else server_tracer(service_name)
        self._excluded: re.Pattern[str] | None = path_filter(excluded_paths)
        self._extract = extractor(propagator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, _flushing_at_the_end(send))
            return
        if (
            scope["type"] != "http"
            or _TRACED in scope
            or (self._excluded is not None and self._excluded.match(scope["path"]))
        ):
            await self.app(scope, receive, send)
            return
        scope[_TRACED] = True
        native = getattr(scope.get(_FASTAPI_TELEMETRY), "span", None)
        if native is not None:
            await self._pass_through(native, scope, receive, send)
            return
        # Around a FastAPI application, this span is the request's: the key keeps FastAPI from making another.
        scope.setdefault(_FASTAPI_TELEMETRY, None)
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

        def values(name: str) -> Sequence[str]:
            return headers.get(name, ())

        parent = self._extract(values, context_api.get_current())
        method = scope["method"]
        root_path = scope.get("root_path", "")
        span = start_server_span(self._tracer, method, parent, _request_attributes(scope, headers))
        trace_id = b"%032x" % span.get_span_context().trace_id

        async def traced_send(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                set_response(span, message["status"])
                message = {**message, "headers": [*message.get("headers", ()), (_TRACE_ID_HEADER, trace_id)]}
            try:
                await send(message)
            finally:
                if kind == "http.response.body" and not message.get("more_body", False):
                    _end(span, method, scope, root_path)

        token = context_api.attach(trace.set_span_in_context(span, parent))
        try:
            await self.app(scope, receive, traced_send)
        except BaseException as error:
            if span.is_recording():
                set_exception(span, error)
            raise
        finally:
            if span.is_recording():
                _end(span, method, scope, root_path)
            context_api.detach(token)

    async def _pass_through(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI has made the server span: say its trace in the answer, and record what is raised."""
        trace_id = b"%032x" % span.get_span_context().trace_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (_TRACE_ID_HEADER, trace_id)]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except BaseException as error:
            if span.is_recording():
                set_exception(span, error)
            raise


def _flushing_at_the_end(send: Send) -> Send:
    # After a graceful end uvicorn raises SIGTERM anew with no handler set: no exit handler of ours would run.
    async def send_after_flush(message: Message) -> None:
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await asyncio.to_thread(flush)
        await send(message)

    return send_after_flush


def _end(span: Span, method: str, scope: Scope, root_path: str) -> None:
    route = _route(scope, root_path)
    if route:
        set_route(span, method, route)
    span.end()


def _route(scope: Scope, root_path: str) -> str | None:
    """The template of the route that the framework chose, with the path it is mounted at."""
    path = getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):
        return None
    mounted_at = scope.get("root_path", "").removeprefix(root_path)
    return path if path.startswith(mounted_at) else mounted_at + path


def _request_attributes(scope: Scope, headers: dict[str, list[str]]) -> Attributes:
    attributes: Attributes = {"url.path": scope["path"], "url.scheme": scope.get("scheme", "http")}
    if query := scope.get("query_string"):
        attributes["url.query"] = redacted(query.decode("latin-1"))
    server = scope.get("server")
    host, _, port = headers.get("host", [server[0] if server else ""])[0].partition(":")
    attributes["server.address"] = host
    number = port if port.isdigit() else (server[1] if server else None)
    if number is not None:
        attributes["server.port"] = int(number)
    client = headers.get("x-forwarded-for") or ([scope["client"][0]] if scope.get("client") else None)
    if client:
        attributes["client.address"] = client[0].partition(",")[0].strip()
    if agent := headers.get("user-agent"):
        attributes["user_agent.original"] = agent[0]
    if version := scope.get("http_version"):
        attributes["network.protocol.version"] = version
    return attributes
