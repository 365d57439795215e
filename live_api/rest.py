"""Our own REST API, /api/v1. Endpoints are plain functions: they run in threads, and the feeds go on meanwhile."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query

import live_api.any_text  # noqa: F401 (lets routes say {name:text})
from live_api import models, statements, views
from live_api.comparison import compared
from live_api.database import Database
from live_api.errors import InvalidParameter
from live_api.feeds import AlertFeed
from live_api.filters import AlertFilter
from live_api.parameters import MAX_TIME_NS, checked_text, limited_tags, span_kind_of, trace_id_of
from live_api.strict_route import StrictRoute
from live_api.trace_query import TraceQuery, check_ranges, traces_statement
from tracecore.wire import encode_alert

_MAX_PAGE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: Every answer that is no answer.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": models.Problem, "description": "A parameter cannot be used; its name stands in `parameter`."},
    401: {"model": models.Problem, "description": "A bearer token is needed."},
    503: {"model": models.Problem, "description": "Kafka or PostgreSQL does not answer, or the query takes too long."},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": models.Problem, "description": "It is not there."},
}

TraceId = Annotated[str, Path(description="Trace id in hex.", pattern="^[0-9a-fA-F]{1,32}$")]
Service = Annotated[str, Query(max_length=600, description="Name of a service.")]
Limit = Annotated[int, Query(ge=1, le=_MAX_PAGE, description="Size of a page.")]
Cursor = Annotated[str, Query(max_length=512, description="`next_cursor` of the page before.")]


class Range:
    """The range of time of a request; the last hour, unless told otherwise."""

    def __init__(
        self,
        start: Annotated[
            datetime | None, Query(description="Begin of the range, RFC 3339; default an hour ago.")
        ] = None,
        end: Annotated[datetime | None, Query(description="End of the range, RFC 3339; default now.")] = None,
    ) -> None:
        self.end = _aware("end", end) if end else datetime.now(UTC)
        self.start = _aware("start", start) if start else max(_EPOCH, self.end - timedelta(hours=1))
        if self.start > self.end:
            raise InvalidParameter("start", "must not lie after end")

    @property
    def seconds(self) -> float:
        """Length of the range, above zero."""
        return max((self.end - self.start).total_seconds(), 1e-6)

    @property
    def bounds(self) -> dict[str, datetime]:
        """Parameters of a statement."""
        return {"start": self.start, "end": self.end}


InRange = Annotated[Range, Depends()]


def rest_router(database: Database, alerts: AlertFeed) -> APIRouter:
    """The routes under /api/v1."""
    router = APIRouter(prefix="/api/v1", responses=PROBLEMS, route_class=StrictRoute)

    @router.get("/services", tags=["services"])
    def services() -> models.Services:
        """Services that have spans."""
        return models.Services(services=[row["service"] for row in database.rows(statements.SERVICES)])

    @router.get("/services/{service:text}/operations", tags=["services"])
    def operations(service: str, kind: Annotated[str, Query(max_length=40)] = "") -> models.Operations:
        """Operations of a service, of all span kinds or of one."""
        wanted = {
            "service": checked_text("service", service),
            "kind": span_kind_of("kind", kind) if kind else None,
        }
        rows = database.rows(statements.OPERATIONS, wanted)
        return models.Operations(
            operations=[models.Operation(operation=r["operation"], kind=views.kind_name(r["kind"])) for r in rows]
        )

    @router.get("/services/{service:text}/statistics", tags=["services"])
    def statistics(
        service: str, within: InRange, operation: Annotated[str, Query(max_length=1024)] = ""
    ) -> models.Statistics:
        """Rates, errors and latencies of a service's operations, from the minutes of the range."""
        wanted = {
            "service": checked_text("service", service),
            "operation": checked_text("operation", operation),
            **within.bounds,
        }
        rows = database.rows(statements.OPERATION_STATISTICS, wanted)
        return models.Statistics(
            service=service, start=within.start, end=within.end, operations=views.statistics(rows, within.seconds)
        )

    @router.get("/traces", tags=["traces"])
    def traces(
        within: InRange,
        service: Service = "",
        operation: Annotated[str, Query(max_length=1024, description="Name of one of its spans.")] = "",
        tag: Annotated[list[str] | None, Query(description="key=value; may be repeated.")] = None,
        min_duration_ms: Annotated[float | None, Query(ge=0, le=1e12)] = None,
        max_duration_ms: Annotated[float | None, Query(ge=0, le=1e12)] = None,
        status: Literal["", "ok", "error"] = "",
        limit: Limit = 20,
        cursor: Cursor = "",
    ) -> models.TracePage:
        """Traces for which all of this holds, newest first. Tags hold for one span, of the service if it is named."""
        before = None
        if cursor:
            before_ns, last_id = views.read_page_cursor(cursor)
            before = (min(before_ns, MAX_TIME_NS), trace_id_of("cursor", last_id))
        query = TraceQuery(
            start_ns=_unix_ns(within.start),
            end_ns=_unix_ns(within.end) + 999,
            limit=limit,
            service=checked_text("service", service),
            operation=checked_text("operation", operation),
            tags=_tags(tag or []),
            min_duration_ns=None if min_duration_ms is None else round(min_duration_ms * 1e6),
            max_duration_ns=None if max_duration_ms is None else round(max_duration_ms * 1e6),
            status=status,
            before=before,
        )
        check_ranges(query, "start", "min_duration_ms")
        ids = [row["trace_id"] for row in database.rows(*traces_statement(query))]
        heads = database.heads(ids[:limit])
        more = len(ids) > limit and heads
        next_cursor = views.page_cursor(heads[-1]["start_ns"], heads[-1]["trace_id"].hex()) if more else None
        return models.TracePage(traces=[views.trace_line(head) for head in heads], next_cursor=next_cursor)

    @router.get("/traces/{trace_id}", tags=["traces"], responses=_NOT_FOUND)
    def trace(trace_id: TraceId) -> models.TraceTree:
        """A trace: its tree, self times, critical path, warnings."""
        return views.trace_tree(database.trace(trace_id_of("trace_id", trace_id)))

    @router.get("/traces/{trace_id}/compare/{other_id}", tags=["traces"], responses=_NOT_FOUND)
    def compare(trace_id: TraceId, other_id: TraceId) -> models.Comparison:
        """What differs between a trace and another, operation by operation."""
        before = database.trace(trace_id_of("trace_id", trace_id))
        after = database.trace(trace_id_of("other_id", other_id))
        return models.Comparison(
            traces=(views.trace_line(before.head), views.trace_line(after.head)),
            operations=compared(before.spans, after.spans),
        )

    @router.get("/dependencies", tags=["services"])
    def dependencies(within: InRange, service: Service = "") -> models.Dependencies:
        """Who called whom in the range; of one service, its callers and callees."""
        wanted = {"service": checked_text("service", service), **within.bounds}
        rows = database.rows(statements.DEPENDENCIES, wanted)
        return models.Dependencies(dependencies=[views.dependency(row) for row in rows])

    @router.get("/errors", tags=["errors"])
    def errors(within: InRange, service: Service = "", limit: Limit = 50) -> models.ErrorGroups:
        """Groups of alike errors in the range, most frequent first."""
        wanted = {"service": checked_text("service", service), "rows": limit, **within.bounds}
        rows = database.rows(statements.ERROR_GROUPS, wanted)
        return models.ErrorGroups(groups=[views.error_group(row) for row in rows])

    @router.get("/alerts", tags=["alerts"])
    def alert_history(
        within: InRange,
        service: Service = "",
        severity: Literal["", "info", "warning", "critical"] = "",
        status: Literal["", "firing", "resolved"] = "",
        replay: Annotated[str, Query(max_length=256, description="A replay's alerts, not the live ones.")] = "",
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> models.AlertPage:
        """Alerts that began in the range, newest first."""
        before_ns, before_id = views.read_page_cursor(cursor) if cursor else (None, "")
        wanted = {
            "service": checked_text("service", service),
            "severity": severity,
            "status": status,
            "replay": checked_text("replay", replay),
            "rows": limit + 1,
            "before_ns": before_ns,
            "before_id": before_id,
            **within.bounds,
        }
        rows = database.rows(statements.ALERTS, wanted)
        page = rows[:limit]
        next_cursor = views.page_cursor(page[-1]["starts_at_ns"], page[-1]["fingerprint"]) if rows[limit:] else None
        return models.AlertPage(alerts=[models.AlertEpisode(**row) for row in page], next_cursor=next_cursor)

    @router.get("/alerts/firing", tags=["alerts"])
    async def firing(service: Service = "") -> models.FiringAlerts:
        """What fires now, as the alert feed knows it, without PostgreSQL."""
        asked = AlertFilter(services=frozenset([service]) if service else frozenset())
        now = [_json_of(encode_alert(alert)) for alert in alerts.firing.asked_for(asked)]
        return models.FiringAlerts(cursor=str(alerts.feed.cursor), alerts=now)

    @router.get("/health", tags=["services"])
    def health(within: InRange) -> models.Health:
        """The newest health of each service in the range."""
        rows = database.rows(statements.HEALTH, within.bounds)
        return models.Health(services=[models.ServiceHealth(**row) for row in rows])

    @router.get("/replays", tags=["replays"])
    def replays(
        state: Literal["", "running", "interrupted", "cancelled", "draining", "done", "failed"] = "",
        replay_id: Annotated[str, Query(max_length=256)] = "",
        limit: Limit = 50,
    ) -> models.Replays:
        """Replays and how far they came, the newest first."""
        wanted = {"state": state, "replay_id": checked_text("replay_id", replay_id), "rows": limit}
        return models.Replays(replays=[models.Replay(**row) for row in database.rows(statements.REPLAYS, wanted)])

    return router


def now_ns() -> int:
    """Unix time."""
    return time.time_ns()


def _aware(name: str, value: datetime) -> datetime:
    """The time, in UTC if it names no zone."""
    try:
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise InvalidParameter(name, "must lie between 1970 and 2100") from None
    if not 0 <= _unix_ns(value) <= MAX_TIME_NS:
        raise InvalidParameter(name, "must lie between 1970 and 2100")
    return value


def _unix_ns(value: datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND * 1000


def _tags(pairs: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = checked_text("tag", pair).partition("=")
        if not equals or not key:
            raise InvalidParameter("tag", "must be key=value")
        tags[key] = value
    return limited_tags("tag", tags)


def _json_of(encoded: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(encoded)
    return value
