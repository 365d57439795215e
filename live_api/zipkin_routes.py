"""Zipkin's read API v2, at its own paths and under /zipkin, where its UI looks."""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from live_api import statements, zipkin
from live_api.answers import as_json, parameters_of
from live_api.database import Database
from live_api.jaeger_routes import dependency_rows
from live_api.openapi import query_parameters
from live_api.parameters import trace_id_of
from live_api.rest import now_ns
from live_api.trace_query import timestamp

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter cannot be used."},
    401: {"description": "A bearer token is needed."},
    503: {"description": "PostgreSQL does not answer, or the query takes too long."},
}
_REMOTE_SERVICES_OF = timedelta(days=7)


def zipkin_router(database: Database) -> APIRouter:
    """The routes below /api/v2."""
    router = APIRouter(prefix="/api/v2", responses=_ERRORS, tags=["Zipkin v2"])

    @router.get("/services")
    def services() -> Response:
        """Names of services."""
        return as_json([row["service"] for row in database.rows(statements.SERVICES)])

    @router.get("/spans", openapi_extra=query_parameters("serviceName"))
    def span_names(request: Request) -> Response:
        """Names of a service's spans."""
        service = parameters_of(request).required("serviceName")
        rows = database.rows(statements.OPERATIONS, {"service": service, "kind": None})
        return as_json(sorted({row["operation"] for row in rows}))

    @router.get("/remoteServices", openapi_extra=query_parameters("serviceName"))
    def remote_services(request: Request) -> Response:
        """Whom a service called in the last week."""
        service = parameters_of(request).required("serviceName")
        start = timestamp(now_ns()) - _REMOTE_SERVICES_OF
        rows = database.rows(statements.REMOTE_SERVICES, {"service": service, "start": start})
        return as_json([row["callee"] for row in rows])

    @router.get(
        "/traces",
        openapi_extra=query_parameters(
            *("serviceName", "spanName", "annotationQuery", "minDuration", "maxDuration", "endTs", "lookback", "limit")
        ),
    )
    def search(request: Request) -> Response:
        """Traces with a span that matches."""
        ids = database.trace_ids_by_span(zipkin.search_query(parameters_of(request), now_ns()))
        return as_json([zipkin.trace_json(trace) for trace in database.traces(ids)])

    @router.get("/trace/{trace_id}", responses={404: {"description": "It is not there."}})
    def trace(trace_id: str) -> Response:
        """A trace; 404 when it is not there."""
        return as_json(zipkin.trace_json(database.trace(trace_id_of("traceId", trace_id))))

    @router.get("/traceMany", openapi_extra=query_parameters("traceIds"))
    def several(request: Request) -> Response:
        """The traces of these ids that are there."""
        traces = database.traces(zipkin.several_trace_ids(parameters_of(request)))
        return as_json([zipkin.trace_json(trace) for trace in traces])

    @router.get("/dependencies", openapi_extra=query_parameters("endTs", "lookback"))
    def dependencies(request: Request) -> Response:
        """Calls between services."""
        parameters = parameters_of(request)
        parameters.required("endTs")
        return as_json(zipkin.dependency_links(dependency_rows(database, parameters, "")))

    @router.get("/autocompleteKeys")
    def autocomplete_keys() -> Response:
        """None: which keys a site is searched by is not configured here."""
        return as_json([])

    @router.get("/autocompleteValues", openapi_extra=query_parameters("key"))
    def autocomplete_values(request: Request) -> Response:
        """None, as there are no keys."""
        parameters_of(request).required("key")
        return as_json([])

    return router
