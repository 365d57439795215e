"""Answers over HTTP: JSON, errors in the shape that each API's clients read, and the checks before a request."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from live_api import jaeger, jaeger_v3
from live_api.access import Access, bearer_token
from live_api.errors import InvalidParameter, NotFound, TooExpensive, Unavailable
from live_api.metrics import Metrics
from live_api.parameters import Parameters
from tracecore.errors import TracewatchError

logger = logging.getLogger(__name__)

_STATUS: Mapping[type[TracewatchError], int] = {
    InvalidParameter: 400,
    NotFound: 404,
    Unavailable: 503,
    TooExpensive: 503,
}
#: They are asked by machines that have no token, and tell nothing.
_OPEN_PATHS = frozenset(("/healthz", "/readyz"))
_MAX_BODY_BYTES = 65_536
_json = msgspec.json.Encoder()


def as_json(value: Any, status: int = 200) -> Response:
    """A JSON answer; NaN and infinities become null."""
    return Response(_json.encode(value), status, media_type="application/json")


def parameters_of(request: Request) -> Parameters:
    """The query of a request."""
    query = request.query_params
    return Parameters({name: query.getlist(name) for name in query})


def error_response(path: str, status: int, message: str, parameter: str = "") -> Response:
    """An error as the API at this path gives it."""
    if path.startswith("/api/v1/") or not path.startswith(("/api/", "/zipkin/")):
        return JSONResponse({"detail": message} | ({"parameter": parameter} if parameter else {}), status)
    if path.startswith("/api/v3/"):
        return JSONResponse(jaeger_v3.error_json(status, message), status)
    if path.startswith(("/api/v2/", "/zipkin/")):
        return PlainTextResponse(message, status)
    return JSONResponse(jaeger.error_envelope(status, message), status)


def answer_errors(app: FastAPI) -> None:
    """Give the errors that we raise on purpose as answers."""

    def answer(request: Request, error: Exception) -> Response:
        parameter = error.parameter if isinstance(error, InvalidParameter) else ""
        return error_response(request.url.path, _STATUS[type(error)], str(error), parameter)  # type: ignore[index]

    for error_type in _STATUS:
        app.add_exception_handler(error_type, answer)


class Gate:
    """ASGI middleware: tokens for HTTP, and a limit on bodies. WebSockets are admitted by their endpoint."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._access.allows(bearer_token(headers.get("authorization", ""))):
            self._metrics.refused.labels("token").inc()
            response = error_response(scope["path"], 401, "a bearer token is needed: Authorization: Bearer TOKEN")
            response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES or "transfer-encoding" in headers:
            self._metrics.refused.labels("body").inc()
            message = f"a body needs a Content-Length, of {_MAX_BODY_BYTES} bytes at most"
            await error_response(scope["path"], 413, message)(scope, receive, send)
            return
        await self._app(scope, receive, send)
