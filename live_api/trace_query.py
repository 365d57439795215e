"""Searching for traces: what is asked, and the SQL that finds it.

Statements are made of fixed pieces; every value travels as a parameter. Two ways lead to the same hits: by the spans of
a service, newest first, where a service is named; else by the traces of a time, newest first.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from live_api.errors import InvalidParameter

#: A statement and its parameters.
Statement = tuple[str, dict[str, Any]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SpanQuery:
    """Traces with at least one span for which all of this holds. Jaeger's and Zipkin's way of asking.

    Times bound the span's start, both ends included; durations the span's. ``tags`` are texts: "404" finds the
    number too. A tag holds for a span if it stands in its attributes, or its resource's, scope's, events' or links'.
    """

    start_ns: int
    end_ns: int
    limit: int
    service: str = ""
    operation: str = ""
    kind: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    #: Zipkin's single words: a tag of this name, or an event.
    words: tuple[str, ...] = ()
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """Traces for which all of this holds, newest first: our own way of asking.

    Durations and status are the trace's; service, operation and tags those of one of its spans. ``before``: start and
    id of the last trace that was seen; what follows is older.
    """

    start_ns: int
    end_ns: int
    limit: int
    service: str = ""
    operation: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    status: Literal["", "ok", "error"] = ""
    before: tuple[int, bytes] | None = None


def check_ranges(query: SpanQuery | TraceQuery, start_name: str, min_name: str) -> None:
    """Raise ``InvalidParameter`` for a range that ends before it begins."""
    if query.start_ns > query.end_ns:
        raise InvalidParameter(start_name, "must not lie after the end of the range")
    low, high = query.min_duration_ns, query.max_duration_ns
    if low is not None and high is not None and low > high:
        raise InvalidParameter(min_name, "must not be longer than the longest duration")


def spans_statement(query: SpanQuery) -> Statement:
    """Rows ``(trace_id,)`` of matching spans, newest span first; a trace comes once for each.

    The reader stops when it has seen enough traces. Without a service, traces come once, newest first.
    """
    conditions, parameters, joins = _span_conditions(query.service, query.operation, query.tags, query.words)
    if query.kind is not None:
        conditions.append("s.kind = %(kind)s")
        parameters["kind"] = query.kind
    for name, sign, bound in (("min", ">=", query.min_duration_ns), ("max", "<=", query.max_duration_ns)):
        if bound is not None:
            conditions.append(f"s.duration_ns {sign} %({name}_duration_ns)s")
            parameters[f"{name}_duration_ns"] = bound
    conditions += ["s.start_time >= %(start)s", "s.start_time <= %(end)s"]
    parameters |= {"start": timestamp(query.start_ns), "end": timestamp(query.end_ns)}
    where = " AND ".join(conditions)
    if query.service:
        return f"SELECT s.trace_id FROM service_traces s{joins} WHERE {where} ORDER BY s.start_time DESC", parameters
    return (
        "SELECT t.trace_id FROM traces t WHERE t.spans_until >= %(start)s AND t.start_time <= %(end)s AND EXISTS"
        f" (SELECT FROM service_traces s{joins} WHERE s.trace_id = t.trace_id"
        f" AND s.start_time BETWEEN t.spans_from AND t.spans_until AND {where})"
        " ORDER BY t.start_time DESC"
    ), parameters


def traces_statement(query: TraceQuery) -> Statement:
    """Rows ``(trace_id,)``, newest trace first, one more than ``limit`` where there is more."""
    conditions = ["t.start_time >= %(start)s", "t.start_time <= %(end)s"]
    parameters: dict[str, Any] = {
        "start": timestamp(query.start_ns),
        "end": timestamp(query.end_ns),
        "rows": query.limit + 1,
    }
    if query.before is not None:
        before_ns, parameters["before_id"] = query.before
        parameters["before_ns"], parameters["before"] = before_ns, timestamp(before_ns)
        # The first condition finds the place in the index, which knows microseconds; the second is exact.
        conditions += [
            "t.start_time <= %(before)s",
            "(t.start_time, t.start_ns, t.trace_id) < (%(before)s, %(before_ns)s, %(before_id)s)",
        ]
    for name, sign, bound in (("min", ">=", query.min_duration_ns), ("max", "<=", query.max_duration_ns)):
        if bound is not None:
            conditions.append(f"t.duration_ns {sign} %({name}_duration_ns)s")
            parameters[f"{name}_duration_ns"] = bound
    if query.status:
        conditions.append("t.error_count > 0" if query.status == "error" else "t.error_count = 0")
    if query.service:
        conditions.append("t.services @> ARRAY[%(service)s]::text[]")
        parameters["service"] = query.service
    if query.operation or query.tags:
        spans, span_parameters, joins = _span_conditions(query.service, query.operation, query.tags, ())
        parameters |= span_parameters
        conditions.append(
            f"EXISTS (SELECT FROM service_traces s{joins} WHERE s.trace_id = t.trace_id"
            f" AND s.start_time BETWEEN t.spans_from AND t.spans_until AND {' AND '.join(spans)})"
        )
    return (
        f"SELECT t.trace_id FROM traces t WHERE {' AND '.join(conditions)}"
        " ORDER BY t.start_time DESC, t.start_ns DESC, t.trace_id DESC LIMIT %(rows)s"
    ), parameters


def timestamp(time_ns: int) -> datetime:
    """The microsecond of a time: what a ``timestamptz`` holds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _span_conditions(
    service: str, operation: str, tags: dict[str, str], words: tuple[str, ...]
) -> tuple[list[str], dict[str, Any], str]:
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    if service:
        conditions.append("s.service = %(service)s")
        parameters["service"] = service
    if operation:
        conditions.append("s.operation = %(operation)s")
        parameters["operation"] = operation
    for number, (key, value) in enumerate(tags.items()):
        conditions.append(_tag_condition(key, value, f"tag{number}", parameters))
    for number, word in enumerate(words):
        parameters[f"word{number}"] = word
        parameters[f"word{number}_event"] = json.dumps([{"name": word}])
        conditions.append(
            f"(s.attributes ? %(word{number})s OR r.attributes ? %(word{number})s"
            f" OR s.events @> %(word{number}_event)s::jsonb)"
        )
    joins = ""
    if tags or words:
        joins = " JOIN resources r USING (resource_id) JOIN scopes c USING (scope_id)"
    return conditions, parameters, joins


def _tag_condition(key: str, value: str, name: str, parameters: dict[str, Any]) -> str:
    values = [value, *_typed(value)]
    parameters[name] = [json.dumps({key: each}) for each in values]
    parameters[f"{name}_nested"] = [json.dumps([{"attributes": {key: each}}]) for each in values]
    places = [f"{place} @> ANY(%({name})s::jsonb[])" for place in ("s.attributes", "r.attributes", "c.attributes")]
    places += [f"{place} @> ANY(%({name}_nested)s::jsonb[])" for place in ("s.events", "s.links")]
    # What Jaeger and Zipkin show as tags, though it is no attribute.
    if key == "error" and value.lower() in ("true", "false"):
        places.append("s.status = 2" if value.lower() == "true" else "s.status <> 2")
    elif key == "error":
        places.append("s.status = 2" if not value else f"s.error_type = %({name}_text)s")
    elif key in ("span.kind", "otel.status_code", "otel.status_description", "otel.scope.name", "otel.scope.version"):
        column = {
            "span.kind": "(ARRAY['unspecified','internal','server','client','producer','consumer'])[s.kind + 1]",
            "otel.status_code": "(ARRAY['UNSET','OK','ERROR'])[s.status + 1]",
            "otel.status_description": "s.status_message",
            "otel.scope.name": "c.name",
            "otel.scope.version": "c.version",
        }[key]
        places.append(f"{column} = %({name}_text)s")
    elif key == "event":
        parameters[f"{name}_event"] = json.dumps([{"name": value}])
        places.append(f"s.events @> %({name}_event)s::jsonb")
    parameters[f"{name}_text"] = value
    return f"({' OR '.join(places)})"


def _typed(value: str) -> list[bool | int | float]:
    """The number or truth value that a tag's text may stand for."""
    if value in ("true", "false"):
        return [value == "true"]
    try:
        number = json.loads(value)
    except (ValueError, RecursionError):
        return []
    if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e300:
        return [number]
    return []
