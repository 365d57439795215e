"""Alerts and traces for the tests of the feeds."""

from tracecore.alert import Alert, Evidence, fingerprint
from tracecore.closed_trace import NO_GAP, ClosedTrace, TracedSpan
from tracecore.span import Resource, Scope


def alert(
    service: str = "checkout",
    *,
    status: str = "firing",
    severity: str = "critical",
    alertname: str = "LatencyShift",
    starts_at_ns: int = 1_000_000_000,
    number: int = 0,
    replay_id: str = "",
) -> Alert:
    """An alert; ``number`` tells events of one fingerprint apart."""
    labels = {"alertname": alertname, "service": service, "operation": "GET /", "severity": severity}
    return Alert(
        fingerprint=fingerprint(labels),
        status=status,  # type: ignore[arg-type]
        labels=labels,
        annotations={"summary": f"{service} is slow"},
        starts_at_ns=starts_at_ns,
        updated_at_ns=starts_at_ns + number,
        ends_at_ns=starts_at_ns + 5 if status == "resolved" else None,
        detected_at_ns=starts_at_ns + number,
        evidence=Evidence(200.0, 20.0, "ns", 12, ("ab" * 16,)),
        replay_id=replay_id,
    )


def closed_trace(
    number: int = 1,
    *,
    services: tuple[str, ...] = ("front", "back"),
    duration_ns: int = 5_000_000,
    errors: int = 0,
    replay_id: str = "",
) -> ClosedTrace:
    """A trace of one span a service, each the parent of the next."""
    start = 1_700_000_000_000_000_000
    ids = [bytes([number % 256, index + 1]) * 4 for index in range(len(services))]
    spans = tuple(
        TracedSpan(
            span_id=ids[index],
            parent_span_id=ids[index - 1] if index else b"",
            tree_parent_id=ids[index - 1] if index else b"",
            depth=index,
            service=service,
            name=f"{service} work",
            kind=2,
            status=2 if errors else 1,
            start_ns=start,
            end_ns=start + duration_ns,
            skew_ns=0,
            self_time_ns=1,
            critical_path_ns=1,
            gap_ns=NO_GAP,
            warnings=(),
            resource=0,
            scope=0,
            raw=b"",
        )
        for index, service in enumerate(services)
    )
    return ClosedTrace(
        trace_id=number.to_bytes(16, "big"),
        revision=1,
        reason="complete",
        root_span_id=ids[0],
        root_service=services[0],
        root_name=f"{services[0]} work",
        start_ns=start,
        end_ns=start + duration_ns,
        first_arrival_ns=start,
        last_arrival_ns=start,
        span_count=len(services),
        error_count=errors,
        duplicate_count=0,
        missing_root=False,
        missing_parents=0,
        error_origin=b"",
        count_milli=1000,
        services=services,
        critical_path=(),
        links=(),
        warnings=(),
        resources=(Resource(b"", "", services[0], services[0]),),
        scopes=(Scope(b"", ""),),
        spans=spans,
        replay_id=replay_id,
    )
