"""Tracing for Flask applications."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanKind, TracerProvider

from tracewatch import wsgi
from tracewatch.errors import MissingPackage
from tracewatch.http_server import set_exception

try:
    from flask import Flask, g, got_request_exception, request
except ImportError as error:
    raise MissingPackage("flask", "flask") from error

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_ROUTE = "tracewatch.route"


class TracingMiddleware:
    """Traces every request of a Flask application from here on.

        app = Flask(__name__)
        TracingMiddleware(app, service_name="yahoo_finance_proxy")

    Spans are named by URL rule. Handlers find ``g.trace_id`` and ``g.span_id`` in
    lowercase hex. Sets tracing up if ``tracewatch.configure`` was not called.
    """

    def __init__(
        self,
        app: Flask,
        service_name: str | None = None,
        *,
        excluded_paths: Iterable[str] = (),
        propagator: TextMapPropagator | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        app.wsgi_app = wsgi.TracingMiddleware(  # type: ignore[method-assign]
            app.wsgi_app,
            service_name,
            excluded_paths=excluded_paths,
            route_of=_route_of,
            propagator=propagator,
            tracer_provider=tracer_provider,
        )
        # First of all hooks, so that those of the application find the ids too.
        app.before_request_funcs.setdefault(None, []).insert(0, _before_request)
        # Flask turns an exception into a 500 before it could reach the WSGI layer.
        got_request_exception.connect(_record_exception, app)


def _before_request() -> None:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        # The objects behind Flask's proxies: through these each attribute would cost a microsecond.
        of_request = g._get_current_object()
        of_request.trace_id = f"{context.trace_id:032x}"
        of_request.span_id = f"{context.span_id:016x}"
    current = request._get_current_object()  # type: ignore[attr-defined]
    if (rule := current.url_rule) is not None:
        # Flask takes its request out of the environ before the WSGI layer has it back: what that needs stays there.
        current.environ[_ROUTE] = rule.rule


def _record_exception(sender: Flask, exception: BaseException, **_: object) -> None:
    span = trace.get_current_span()
    # In debug mode Flask raises it again, and the WSGI layer will record it.
    if getattr(span, "kind", None) is SpanKind.SERVER and not _propagates(sender):
        set_exception(span, exception)


def _propagates(app: Flask) -> bool:
    propagates = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug) if propagates is None else bool(propagates)


def _route_of(environ: "WSGIEnvironment") -> str | None:
    return environ.get(_ROUTE)
