"""Jaeger's query APIs v1 and v3, as its own clients call them."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

import live_api.any_text  # noqa: F401 (lets routes say {name:text})
from live_api import jaeger, jaeger_metrics, jaeger_v3, statements
from live_api.answers import as_json, parameters_of
from live_api.database import Database
from live_api.errors import NotFound
from live_api.jaeger_metrics import MetricName
from live_api.openapi import query_parameters
from live_api.parameters import Parameters, checked_text, trace_id_of
from live_api.rest import now_ns
from live_api.trace_query import timestamp

Endpoint = Callable[..., Response]
Route = Callable[[Endpoint], Endpoint]

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "Nothing matches."}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A parameter cannot be used."},
    401: {"description": "A bearer token is needed."},
    503: {"description": "PostgreSQL does not answer, or the query takes too long."},
}


def jaeger_router(database: Database) -> APIRouter:
    """The routes /api/services, /api/traces, ..., /api/v3/..."""
    router = APIRouter(responses=_ERRORS)
    _add_v1(router, database)
    _add_v3(router, database)
    return router


def _add_v1(router: APIRouter, database: Database) -> None:
    def route(path: str, *parameters: str, responses: dict[int | str, dict[str, Any]] | None = None) -> Route:
        return router.get(
            path, tags=["Jaeger v1"], responses=responses or {}, openapi_extra=query_parameters(*parameters)
        )

    @route("/api/services")
    def services() -> Response:
        """Names of services."""
        names = [row["service"] for row in database.rows(statements.SERVICES)]
        return as_json(jaeger.envelope(names, len(names)))

    @route("/api/services/{service:text}/operations")
    def operations_of_service(service: str) -> Response:
        """Names of a service's operations."""
        rows = _operations(database, jaeger.service_name(service), None)
        names = list(dict.fromkeys(row["operation"] for row in rows))
        return as_json(jaeger.envelope(names, len(names)))

    @route("/api/operations", "service", "spanKind")
    def operations(request: Request) -> Response:
        """A service's operations with their kinds."""
        parameters = parameters_of(request)
        rows = _operations(database, parameters.required("service"), jaeger.operations_kind(parameters))
        found = [{"name": row["operation"], "spanKind": jaeger_v3.kind_name(row["kind"])} for row in rows]
        return as_json(jaeger.envelope(found, len(found)))

    @route(
        "/api/traces",
        *(
            "service",
            "operation",
            "tag",
            "tags",
            "start",
            "end",
            "minDuration",
            "maxDuration",
            "limit",
            "raw",
            "traceID",
        ),
    )
    def search(request: Request) -> Response:
        """Traces with a span that matches, or those of the ids that are named."""
        parameters = parameters_of(request)
        raw = parameters.boolean("raw")
        errors: list[dict[str, Any]] = []
        if named := parameters.texts("traceID"):
            ids = [trace_id_of("traceID", each) for each in named[: jaeger.MAX_LIMIT]]
        else:
            ids = database.trace_ids_by_span(jaeger.search_query(parameters, now_ns()))
        traces = database.traces(ids)
        if named:
            there = {trace.trace_id for trace in traces}
            errors = [{"msg": "trace not found", "traceID": each.hex()} for each in ids if each not in there]
        return as_json(jaeger.envelope([jaeger.trace_json(trace, raw) for trace in traces], errors=errors or None))

    @route("/api/traces/{trace_id}", "raw", responses=_NOT_FOUND)
    def trace(trace_id: str, request: Request) -> Response:
        """A trace; 404 when it is not there."""
        raw = parameters_of(request).boolean("raw")
        found = database.trace(trace_id_of("traceID", trace_id))
        return as_json(jaeger.envelope([jaeger.trace_json(found, raw)]))

    @route("/api/dependencies", "endTs", "lookback", "service")
    def dependencies(request: Request) -> Response:
        """Calls between services."""
        parameters = parameters_of(request)
        rows = dependency_rows(database, parameters, parameters.text("service"))
        return as_json(jaeger.envelope(jaeger.dependency_links(rows)))

    @route("/api/metrics/minstep")
    def minimum_step() -> Response:
        """The shortest step of metrics, in milliseconds."""
        return as_json(jaeger.envelope(jaeger_metrics.MIN_STEP_MS))

    # One function a path: three that differ in a word would each be documented as another's copy.
    def metrics_of(name: MetricName) -> Endpoint:
        def metrics(request: Request) -> Response:
            query = jaeger_metrics.metrics_query(parameters_of(request), name, now_ns())
            statement = statements.OPERATION_HOURS if query.by_hours else statements.OPERATION_MINUTES
            rows = database.rows(
                statement,
                {
                    "services": list(query.services),
                    "kinds": list(query.kinds),
                    "start": timestamp(query.start_ns - query.rate_ns),
                    "end": timestamp(query.end_ns),
                },
            )
            return as_json(jaeger_metrics.metric_family(name, query, jaeger_metrics.points_of(rows)))

        metrics.__name__ = f"metrics_{name}"
        metrics.__doc__ = f"Jaeger UI's Monitor page: {name}."
        return metrics

    names: Iterable[MetricName] = ("latencies", "calls", "errors")
    for name in names:
        quantile = ("quantile",) if name == "latencies" else ()
        route(
            f"/api/metrics/{name}",
            *("service", "groupByOperation", "spanKind", "endTs", "lookback", "step", "ratePer"),
            *quantile,
        )(metrics_of(name))


def _add_v3(router: APIRouter, database: Database) -> None:
    search = (
        *("query.serviceName", "query.operationName", "query.attributes", "query.startTimeMin", "query.startTimeMax"),
        *("query.durationMin", "query.durationMax", "query.searchDepth"),
    )

    def route(path: str, *parameters: str, responses: dict[int | str, dict[str, Any]] | None = None) -> Route:
        return router.get(
            path, tags=["Jaeger v3"], responses=responses or {}, openapi_extra=query_parameters(*parameters)
        )

    @route("/api/v3/services")
    def services_v3() -> Response:
        """Names of services."""
        return as_json({"services": [row["service"] for row in database.rows(statements.SERVICES)]})

    @route("/api/v3/operations", "service", "spanKind")
    def operations_v3(request: Request) -> Response:
        """A service's operations with their kinds."""
        parameters = parameters_of(request)
        rows = _operations(database, parameters.required("service"), jaeger.operations_kind(parameters))
        operations = [{"name": row["operation"], "spanKind": jaeger_v3.kind_name(row["kind"])} for row in rows]
        return as_json({"operations": operations})

    @route("/api/v3/traces", *search, "query.rawTraces", responses=_NOT_FOUND)
    def search_v3(request: Request) -> Response:
        """Traces with a span that matches, as OTLP; 404 when there are none."""
        parameters = parameters_of(request)
        ids = database.trace_ids_by_span(jaeger_v3.search_query(parameters))
        raw = parameters.boolean("query.rawTraces", "query.raw_traces")
        traces = database.traces(ids)
        if not traces:
            raise NotFound("no traces found")
        return as_json(jaeger_v3.traces_json(traces, raw))

    @route("/api/v3/trace-summaries", *search)
    def summaries(request: Request) -> Response:
        """Traces with a span that matches, a line each."""
        ids = database.trace_ids_by_span(jaeger_v3.search_query(parameters_of(request)))
        return as_json({"summaries": [jaeger_v3.summary_json(trace) for trace in database.traces(ids)]})

    @route("/api/v3/traces/{trace_id}", "rawTraces", responses=_NOT_FOUND)
    def trace_v3(trace_id: str, request: Request) -> Response:
        """A trace as OTLP; 404 when it is not there."""
        raw = parameters_of(request).boolean("rawTraces", "raw_traces")
        return as_json(jaeger_v3.traces_json([database.trace(trace_id_of("trace_id", trace_id))], raw))

    @route("/api/v3/dependencies", "startTime", "endTime")
    def dependencies_v3(request: Request) -> Response:
        """Calls between services."""
        parameters = parameters_of(request)
        end_ns = parameters.rfc3339("endTime", "end_time")
        end_ns = now_ns() if end_ns is None else end_ns
        start_ns = parameters.rfc3339("startTime", "start_time")
        start_ns = max(0, end_ns - jaeger.WEEK_NS) if start_ns is None else start_ns
        links = jaeger.dependency_links(_dependencies(database, start_ns, end_ns, ""))
        return as_json({"dependencies": links})


def dependency_rows(database: Database, parameters: Parameters, service: str) -> list[dict[str, Any]]:
    """Calls in the range that ``endTs`` and ``lookback`` name, each pair of services once."""
    return _dependencies(database, *jaeger.dependencies_range(parameters, now_ns()), service)


def _dependencies(database: Database, start_ns: int, end_ns: int, service: str) -> list[dict[str, Any]]:
    wanted = {"start": timestamp(start_ns), "end": timestamp(end_ns), "service": service}
    return jaeger.joined_links(database.rows(statements.DEPENDENCIES, wanted))


def _operations(database: Database, service: str, kind: int | None) -> list[dict[str, Any]]:
    return database.rows(statements.OPERATIONS, {"service": checked_text("service", service), "kind": kind})
