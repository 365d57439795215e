"""The search for traces: what a person asks, and one pass over the history that finds list, dots and counts at once."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from dashboard.queries.query import Query, moment, query
from dashboard.time_range import MINUTE_NS, TimeRange

Order = Literal["newest", "slowest", "spans", "errors"]

LIST_SIZE: Final = 30
#: A browser draws each dot as a shape of its own, and takes no click meanwhile.
SCATTER_SIZE: Final = 500
#: A search within spans stops here: nobody counts further.
MOST_HITS: Final = 10_000

_ORDERS: Final[dict[str, str]] = {
    "newest": "start_time DESC",
    "slowest": "duration_ns DESC",
    "spans": "span_count DESC",
    "errors": "error_count DESC, start_time DESC",
}
_DURATION: Final = re.compile(r"^\s*(\d+(?:[.,]\d+)?)\s*(ns|us|µs|μs|ms|s|m|min)?\s*$", re.IGNORECASE)
_UNIT_NS: Final = {"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "min": 60e9}
#: The first stretch of a search within spans; each further one is twice as long.
_FIRST_STRETCH_NS: Final = 10 * MINUTE_NS
#: A trace's spans may begin this long before or after the trace does, by clocks or by age.
_SLACK_NS: Final = 10 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class TraceSearch:
    """What a person looks for; empty fields ask nothing. Service, operation and tags must meet in one span."""

    service: str = ""
    operation: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    min_ns: int | None = None
    max_ns: int | None = None
    status: Literal["", "error", "ok", "incomplete"] = ""
    order: Order = "newest"

    @property
    def asks_for_spans(self) -> bool:
        """Whether the traces' own rows cannot answer."""
        return bool(self.operation or self.tags)

    @property
    def narrows(self) -> bool:
        """Whether it asks for less than all traces of its range."""
        return replace(self, order="newest") != TraceSearch()


def tags_of(text: str) -> tuple[tuple[str, str], ...]:
    """``http.method=GET "db.statement=SELECT 1"`` as pairs. Raises ``ValueError`` with a sentence for a person."""
    pairs = []
    for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', text):
        key, equals, value = (quoted or bare).partition("=")
        if not key or not equals:
            raise ValueError(f"“{(quoted or bare)[:40]}” is no tag: write key=value, in quotes if it has spaces.")
        pairs.append((key, value.strip('"')))
    return tuple(pairs)


def duration_of(text: str) -> int | None:
    """``250ms``, ``1.5 s``; a bare number is milliseconds. None if empty; raises ``ValueError`` with a sentence."""
    if not text.strip():
        return None
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"“{text[:20]}” is no duration: write 250ms or 1.5s.")
    return round(float(match[1].replace(",", ".")) * _UNIT_NS[(match[2] or "ms").lower()])


def trace_id_of(text: str) -> bytes | None:
    """A trace id as people paste it: 16 or 32 hex digits, dashes or a traceparent around them; None if it is none."""
    parts = text.strip().lower().split("-")
    digits = parts[1] if len(parts) == 4 and len(parts[1]) == 32 else "".join(parts)
    if not re.fullmatch(r"[0-9a-f]{16}|[0-9a-f]{32}", digits):
        return None
    return bytes.fromhex(digits.rjust(32, "0"))


def found(span: TimeRange, search: TraceSearch, hits: tuple[bytes, ...] | None = None) -> Query:
    """A row a trace for the list (``place`` from 1 in the order asked for) and for the scatter (``dot``).

    Dots are an even sample by trace id, and beside it the slowest and some of the failed. Each row repeats ``traces``
    and ``failed``, the counts of all that match; no row: nothing does. ``hits`` are the traces with a span as asked.
    """
    where, parameters = _conditions(span, search)
    if hits is not None:
        where += " AND t.trace_id = ANY (%(hits)s)"
        parameters["hits"] = hits
    # What matches is found once and kept. All of a range is not: half a million rows take longer to keep than to find
    # again in the index, which has them in order and which several processes read at once.
    kept = "" if search.narrows or hits is not None else "NOT"
    return query(
        f"""
        WITH matching AS {kept} MATERIALIZED (
            SELECT trace_id, start_time, duration_ns, error_count, span_count FROM traces t WHERE {where}
        ), total AS MATERIALIZED (
            SELECT count(*) AS traces, count(*) FILTER (WHERE error_count > 0) AS failed FROM matching
        ), listed AS MATERIALIZED (
            SELECT trace_id, row_number() OVER (ORDER BY {_ORDERS[search.order]}) AS place
            FROM (SELECT * FROM matching ORDER BY {_ORDERS[search.order]} LIMIT %(listed)s) AS first
        ), dots AS MATERIALIZED (
            (SELECT trace_id FROM matching
             WHERE get_byte(trace_id, 14) * 256 + get_byte(trace_id, 15)
                   < 65536.0::float8 * %(dots)s / greatest((SELECT traces FROM total), 1) LIMIT %(dots)s + 500)
            UNION (SELECT trace_id FROM matching ORDER BY duration_ns DESC LIMIT 60)
            UNION (SELECT trace_id FROM matching WHERE error_count > 0 ORDER BY start_time DESC LIMIT 150)
        ), chosen AS (
            SELECT trace_id, listed.place, dots.trace_id IS NOT NULL AS dot
            FROM listed FULL JOIN dots USING (trace_id)
        )
        SELECT t.trace_id, t.start_ns, t.duration_ns, t.span_count, t.error_count, t.root_service, t.root_operation,
               t.error_service, t.is_complete, t.replay_id, chosen.place, chosen.dot, total.traces, total.failed
        FROM chosen JOIN traces t USING (trace_id), total
        ORDER BY chosen.place
        """,
        listed=LIST_SIZE,
        dots=SCATTER_SIZE,
        **parameters,
    )


def stretches(span: TimeRange) -> Iterator[TimeRange]:
    """The range in pieces, the newest first, each twice as long as the one before it: for a search that may stop."""
    until_ns, length_ns = span.end_ns, _FIRST_STRETCH_NS
    while until_ns > span.start_ns:
        from_ns = max(span.start_ns, until_ns - length_ns)
        yield TimeRange(from_ns, until_ns)
        until_ns, length_ns = from_ns, 2 * length_ns


def hits(stretch: TimeRange, search: TraceSearch) -> Query:
    """``trace_id`` of the traces with a span of the stretch that has the service, operation and tags asked for."""
    parts = ["start_time >= %(start)s", "start_time < %(end)s"]
    parameters: dict[str, Any] = {
        "start": moment(stretch.start_ns - _SLACK_NS),
        "end": moment(stretch.end_ns + _SLACK_NS),
    }
    for name in ("service", "operation"):
        if value := getattr(search, name):
            parts.append(f"{name} = %({name})s")
            parameters[name] = value
    for place, (key, value) in enumerate(search.tags):
        parts.append(f"attributes ->> %(key{place})s = %(value{place})s")
        parameters |= {f"key{place}": key, f"value{place}": value}
    return query(
        f"""
        SELECT DISTINCT trace_id FROM (
            SELECT trace_id FROM service_traces WHERE {" AND ".join(parts)} LIMIT {3 * MOST_HITS}
        ) AS spans LIMIT {MOST_HITS}
        """,
        **parameters,
    )


def _conditions(span: TimeRange, search: TraceSearch) -> tuple[str, dict[str, Any]]:
    parts = ["t.start_time >= %(start)s", "t.start_time < %(end)s"]
    parameters: dict[str, Any] = {"start": moment(span.start_ns), "end": moment(span.end_ns)}
    if search.min_ns is not None:
        parts.append("t.duration_ns >= %(min_ns)s")
        parameters["min_ns"] = search.min_ns
    if search.max_ns is not None:
        parts.append("t.duration_ns <= %(max_ns)s")
        parameters["max_ns"] = search.max_ns
    status: Mapping[str, str] = {
        "error": "t.error_count > 0",
        "ok": "t.error_count = 0",
        "incomplete": "NOT t.is_complete",
    }
    if search.status:
        parts.append(status[search.status])
    if search.service:
        parts.append("%(service)s = ANY (t.services)")
        parameters["service"] = search.service
    return " AND ".join(parts), parameters
