"""Answers of our own REST API, for the OpenAPI document. Times are RFC 3339, durations nanoseconds, ids hex."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str
    parameter: str | None = None


class Services(BaseModel):
    """Services that have spans."""

    services: list[str]


class Operation(BaseModel):
    """An operation of a service."""

    operation: str
    kind: str


class Operations(BaseModel):
    """Operations of a service."""

    operations: list[Operation]


class OperationStatistics(BaseModel):
    """What an operation did in a range. Rates are weighted by head sampling; quantiles are off by 1 % at most."""

    operation: str
    kind: str
    spans: int
    rate_per_s: float
    error_ratio: float
    p50_ns: float | None
    p95_ns: float | None
    p99_ns: float | None
    self_p50_ns: float | None = Field(description="Median of the time that no child covers.")
    self_p99_ns: float | None
    slow_trace_id: str | None
    failed_trace_id: str | None


class Statistics(BaseModel):
    """Statistics of operations, busiest first."""

    service: str
    start: datetime
    end: datetime
    operations: list[OperationStatistics]


class TraceLine(BaseModel):
    """A trace without its spans."""

    trace_id: str
    root_service: str
    root_operation: str
    start_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    services: list[str]
    is_complete: bool
    revision: int
    reason: str
    warnings: list[str]
    sampled_by: str
    replay_id: str


class TracePage(BaseModel):
    """Traces, newest first. ``next_cursor`` is null on the last page."""

    traces: list[TraceLine]
    next_cursor: str | None


class SpanEvent(BaseModel):
    """A span's event."""

    name: str
    time_ns: int
    attributes: dict[str, Any]


class SpanLink(BaseModel):
    """A span's link."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class TreeSpan(BaseModel):
    """A span in its trace. ``start_ns`` is as sent; add ``skew_ns`` for the root's clock."""

    span_id: str
    parent_span_id: str | None = Field(description="As sent.")
    tree_parent_id: str | None = Field(description="Where it hangs in the tree.")
    depth: int
    service: str
    operation: str
    kind: str
    status: Literal["unset", "ok", "error"]
    status_message: str | None
    error_type: str | None
    start_ns: int
    duration_ns: int
    self_time_ns: int
    critical_path_ns: int
    skew_ns: int
    gap_ns: int | None = Field(description="On a server's span: what its client's lasted longer, the network.")
    warnings: list[str]
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str
    events: list[SpanEvent]
    links: list[SpanLink]


class PathSegment(BaseModel):
    """A stretch of the critical path, on the root's clock."""

    span_id: str
    start_ns: int
    end_ns: int


class ServiceLink(BaseModel):
    """Calls between two services in a trace."""

    caller: str
    callee: str
    callee_type: str
    calls: int
    errors: int
    duration_ns: int
    gap_ns: int
    gap_calls: int


class TraceTree(TraceLine):
    """A trace: its spans in the tree's order, and what was found in it."""

    error_origin: str | None = Field(description="Span that failed first and deepest.")
    error_service: str | None
    missing_parents: int
    missing_root: bool
    duplicate_count: int
    critical_path: list[PathSegment]
    links: list[ServiceLink]
    spans: list[TreeSpan]


class ComparedOperation(BaseModel):
    """An operation that is called from the same place in two traces; null where one has it not."""

    path: list[str] = Field(description="Service and operation of the root, of its child, and so on.")
    calls: tuple[int, int]
    duration_ns: tuple[int | None, int | None]
    self_time_ns: tuple[int | None, int | None]
    errors: tuple[int, int]
    self_time_change_ns: int


class Comparison(BaseModel):
    """Two traces, operation by operation; what changed most comes first."""

    traces: tuple[TraceLine, TraceLine]
    operations: list[ComparedOperation]


class Dependency(BaseModel):
    """Calls from one service to another in a range."""

    caller: str
    callee: str
    callee_type: str
    calls: int
    errors: int
    mean_duration_ns: float | None
    mean_gap_ns: float | None = Field(description="Network, where both sides sent spans.")


class Dependencies(BaseModel):
    """The graph of services."""

    dependencies: list[Dependency]


class ErrorGroup(BaseModel):
    """Errors that are alike. ``origins``: how often the error began there, and was not passed on from a callee."""

    group_id: str
    service: str
    operation: str
    error_type: str
    message: str
    first_seen: datetime
    last_seen: datetime
    last_trace_id: str
    errors: int
    origins: int


class ErrorGroups(BaseModel):
    """Error groups, most frequent first."""

    groups: list[ErrorGroup]


class AlertEpisode(BaseModel):
    """An alert from firing to resolved."""

    fingerprint: str
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    evidence: dict[str, Any]
    starts_at: datetime
    ends_at: datetime | None
    updated_at: datetime
    detected_at: datetime
    resolved_at: datetime | None
    replay_id: str


class AlertPage(BaseModel):
    """Alerts, newest first."""

    alerts: list[AlertEpisode]
    next_cursor: str | None


class FiringAlerts(BaseModel):
    """What fires now; ``cursor`` resumes the alert feed from here."""

    cursor: str
    alerts: list[dict[str, Any]]


class ServiceHealth(BaseModel):
    """Health of a service, 0 (down) to 100 (well), and what cost points."""

    service: str
    start_time: datetime
    score: int
    reasons: list[dict[str, Any]]


class Health(BaseModel):
    """The newest health of each service."""

    services: list[ServiceHealth]


class Replay(BaseModel):
    """A replay and how far it came. What it did to the history is null until it is done."""

    replay_id: str
    name: str
    source: str
    from_time: datetime | None
    until_time: datetime | None
    state: str = Field(description="running, interrupted, cancelled, draining, done or failed.")
    records: int
    spans: int
    unreadable: int
    traces_new: int | None
    traces_amended: int | None
    traces_unchanged: int | None
    alerts: int | None
    failure: str
    started_at: datetime
    updated_at: datetime


class Replays(BaseModel):
    """Replays, the newest first."""

    replays: list[Replay]
