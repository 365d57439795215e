"""A made-up shop's history, written straight into the tables: for pages, where the way through Kafka is not the point.

One service (payment) is slow and fails in the last part of it.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import psycopg
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tracecore.alert import fingerprint
from tracecore.buckets import bucket_of

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: service, operation: own milliseconds, calls (service, operation, probability), peer (name, type) or None.
Call = tuple[str, str, float]
SHOP: dict[tuple[str, str], tuple[float, list[Call], tuple[str, str] | None]] = {
    ("storefront", "GET /"): (
        4,
        [("catalog", "list products", 1), ("cart", "get cart", 0.8), ("ads", "pick", 0.5)],
        None,
    ),
    ("storefront", "GET /product/{id}"): (
        3,
        [("catalog", "get product", 1), ("recommendations", "for product", 0.9)],
        None,
    ),
    ("storefront", "POST /checkout"): (5, [("checkout", "place order", 1)], None),
    ("catalog", "list products"): (3, [("catalog", "SELECT products", 1)], None),
    ("catalog", "get product"): (2, [("catalog", "SELECT products", 1)], None),
    ("catalog", "SELECT products"): (6, [], ("postgres", "database")),
    ("cart", "get cart"): (1.5, [("cart", "HGETALL", 1)], None),
    ("cart", "HGETALL"): (0.6, [], ("redis", "database")),
    ("ads", "pick"): (2, [], None),
    ("recommendations", "for product"): (7, [("catalog", "get product", 1)], None),
    ("checkout", "place order"): (
        6,
        [
            ("cart", "get cart", 1),
            ("shipping", "quote", 1),
            ("payment", "charge", 1),
            ("checkout", "send orders", 1),
        ],
        None,
    ),
    ("shipping", "quote"): (3, [], None),
    ("payment", "charge"): (9, [("payment", "POST api.bank.example", 1)], None),
    ("payment", "POST api.bank.example"): (40, [], ("api.bank.example", "external")),
    ("checkout", "send orders"): (1, [], ("orders", "messaging")),
}
ROOTS = (("storefront", "GET /"), ("storefront", "GET /product/{id}"), ("storefront", "POST /checkout"))


@dataclass
class MadeSpan:
    """A span before it is a row."""

    span_id: bytes
    parent: bytes | None
    service: str
    operation: str
    kind: int
    depth: int
    start: int
    duration: int = 0
    own: int = 0
    gap: int | None = None
    failed: bool = False
    peer: tuple[str, str] | None = None
    children: list["MadeSpan"] = field(default_factory=list)


def make_trace(dice: random.Random, root: tuple[str, str], start: int, *, fault: bool) -> list[MadeSpan]:
    """The spans of one trace, a parent before its children."""
    spans: list[MadeSpan] = []

    def run(name: tuple[str, str], parent: MadeSpan | None, at: int, kind: int) -> MadeSpan:
        own_ms, calls, peer = SHOP[name]
        span = MadeSpan(
            dice.randbytes(8), parent.span_id if parent else None, *name, kind, parent.depth + 1 if parent else 0, at
        )
        span.peer = peer
        spans.append(span)
        own = int(own_ms * 1e6 * dice.lognormvariate(0, 0.45))
        if fault and name[0] == "payment" and peer:
            own *= 9
            span.failed = dice.random() < 0.4
        now = at + own // 2
        for service, operation, probability in calls:
            if dice.random() > probability:
                continue
            if service == name[0]:
                child = run((service, operation), span, now, 3 if operation != "send orders" else 4)
            else:
                client = MadeSpan(
                    dice.randbytes(8), span.span_id, name[0], f"{service}/{operation}", 3, span.depth + 1, now
                )
                spans.append(client)
                network = int(0.4e6 * dice.lognormvariate(0, 0.5))
                server = run((service, operation), client, now + network, 2)
                server.gap = 2 * network
                client.duration, client.own = server.duration + 2 * network, 2 * network
                client.failed, client.children = server.failed, [server]
                child = client
            span.children.append(child)
            span.failed |= child.failed
            now = child.start + child.duration + dice.randrange(20_000)
        span.duration = now - at + own // 2
        span.own = span.duration - sum(child.duration for child in span.children)
        return span

    run(root, None, start, 2)
    return spans


def critical_path(root: MadeSpan) -> list[tuple[bytes, int, int]]:
    """Children run one after the other here, so the path is all of them and what lies between."""
    segments: list[tuple[bytes, int, int]] = []
    at = root.start
    for child in root.children:
        if child.start > at:
            segments.append((root.span_id, at, child.start))
        segments += critical_path(child)
        at = child.start + child.duration
    if root.start + root.duration > at:
        segments.append((root.span_id, at, root.start + root.duration))
    return segments


class Shop:
    """Collects traces and writes them, with every statistic that the pipeline would have made of them."""

    def __init__(self, seed: int = 1) -> None:
        self.dice = random.Random(seed)
        self.traces: list[tuple[bytes, list[MadeSpan]]] = []
        self.alerts: list[dict[str, Any]] = []
        self.health: list[dict[str, Any]] = []

    def trade(self, start: int, end: int, traces: int, *, fault_from: int | None = None) -> "Shop":
        """``traces`` requests, evenly over [start, end) in Unix ns."""
        for index in range(traces):
            at = start + (end - start) * index // traces + self.dice.randrange(SECOND)
            root = self.dice.choices(ROOTS, (5, 4, 2))[0]
            fault = fault_from is not None and at >= fault_from
            self.add(make_trace(self.dice, root, at, fault=fault))
        return self

    def add(self, spans: list[MadeSpan]) -> bytes:
        """Add a trace; returns its id."""
        trace_id = self.dice.randbytes(16)
        self.traces.append((trace_id, spans))
        return trace_id

    def alarm(self, starts: int, ends: int | None = None, **changes: Any) -> "Shop":
        """An alert on payment that began at ``starts``; ``changes`` as ``alert_row`` takes them."""
        samples = [trace_id.hex() for trace_id, spans in self.traces if any(span.failed for span in spans)][-3:]
        self.alerts.append({"starts": starts, "ends": ends, "samples": samples} | changes)
        return self

    def judge(self, at: int, scores: dict[str, tuple[int, str]]) -> "Shop":
        """Health of services at a moment: score and reason."""
        for service, (score, reason) in scores.items():
            reasons = json.dumps([{"reason": reason, "points": 100 - score}] if reason else [])
            row = {"start_time": moment(at), "score": score, "service": service, "reasons": reasons, "replay_id": ""}
            self.health.append(row)
        return self

    def write(self, database_url: str) -> None:
        """Fill the tables."""
        days = {moment(spans[0].start + offset).date() for _, spans in self.traces for offset in (0, 60 * SECOND)}
        with psycopg.connect(database_url) as connection:
            connection.execute("SELECT ensure_day_partitions(%s)", [sorted(days)])
            copy(connection, "traces", list(self._trace_rows()))
            copy(connection, "service_traces", list(self._span_rows()))
            copy(connection, "service_dependencies", list(self._dependency_rows()))
            for table, width in (("windows", 10), ("minutes", 60), ("hours", 3600)):
                copy(connection, f"operation_{table}", list(self._operation_rows(width)))
                copy(connection, f"hop_{table}", list(self._hop_rows(width)))
            groups, counts = self._error_rows()
            copy(connection, "error_groups", groups)
            copy(connection, "error_group_minutes", counts)
            services = sorted({span.service for _, spans in self.traces for span in spans})
            copy(
                connection,
                "resources",
                [
                    {
                        "resource_id": index,
                        "service": service,
                        "attributes": json.dumps({"service.name": service, "host.name": f"{service}-7c9f"}),
                        "schema_url": "",
                        "raw": b"",
                        "last_used": max(days),
                    }
                    for index, service in enumerate(services)
                ],
            )
            copy(connection, "alerts", [alert_row(**alert) for alert in self.alerts])
            copy(connection, "service_health", self.health)
            connection.commit()
            connection.autocommit = True
            connection.execute("ANALYZE")

    def _trace_rows(self) -> Iterator[dict[str, Any]]:
        for trace_id, spans in self.traces:
            root = spans[0]
            failed = [span for span in spans if span.failed]
            origin = max(failed, key=lambda span: span.depth, default=None)
            path = [[span_id.hex(), start, end] for span_id, start, end in critical_path(root)]
            yield {
                "trace_id": trace_id,
                "start_time": moment(root.start),
                "start_ns": root.start,
                "duration_ns": root.duration,
                "spans_from": moment(min(span.start for span in spans)),
                "spans_until": moment(max(span.start for span in spans)),
                "first_arrival_ns": root.start,
                "last_arrival_ns": root.start + root.duration,
                "count_milli": 1000,
                "revision": 1,
                "span_count": len(spans),
                "error_count": len(failed),
                "duplicate_count": 0,
                "missing_parents": 0,
                "missing_root": False,
                "is_complete": True,
                "reason": "complete",
                "root_service": root.service,
                "root_operation": root.operation,
                "root_span_id": root.span_id,
                "error_origin": origin.span_id if origin else None,
                "error_service": origin.service if origin else None,
                "services": sorted({span.service for span in spans}),
                "warnings": [],
                "critical_path": json.dumps(path),
                "links": "[]",
                "sampled_by": "",
                "replay_id": "",
                "digest": b"",
            }

    def _span_rows(self) -> Iterator[dict[str, Any]]:
        services = sorted({span.service for _, spans in self.traces for span in spans})
        resource_of = {service: index for index, service in enumerate(services)}
        for trace_id, spans in self.traces:
            on_path: dict[bytes, int] = defaultdict(int)
            for span_id, start, end in critical_path(spans[0]):
                on_path[span_id] += end - start
            for span in spans:
                attributes: dict[str, Any] = {"http.route": span.operation} if span.kind == 2 else {}
                if span.peer:
                    attributes["peer.service"] = span.peer[0]
                exception = {"exception.type": "BankTimeout", "exception.message": "no answer within 300 ms"}
                event = {"name": "exception", "time_ns": span.start + span.duration, "attributes": exception}
                yield {
                    "start_time": moment(span.start),
                    "start_ns": span.start,
                    "duration_ns": span.duration,
                    "self_time_ns": span.own,
                    "critical_path_ns": on_path[span.span_id],
                    "skew_ns": 0,
                    "gap_ns": span.gap,
                    "resource_id": resource_of[span.service],
                    "scope_id": 0,
                    "depth": span.depth,
                    "kind": span.kind,
                    "status": 2 if span.failed else 0,
                    "trace_id": trace_id,
                    "span_id": span.span_id,
                    "parent_span_id": span.parent,
                    "tree_parent_id": span.parent,
                    "service": span.service,
                    "operation": span.operation,
                    "status_message": "no answer within 300 ms" if span.failed else None,
                    "error_type": "BankTimeout" if span.failed else None,
                    "warnings": None,
                    "attributes": json.dumps(attributes),
                    "events": json.dumps([event]) if span.failed and span.peer else None,
                    "links": None,
                    "raw": raw_span(trace_id, span, attributes),
                }

    def _dependency_rows(self) -> Iterator[dict[str, Any]]:
        cells: dict[tuple[int, str, str, str], list[int]] = defaultdict(lambda: [0] * 5)
        for _, spans in self.traces:
            minute = spans[0].start // (60 * SECOND)
            for span in spans:
                for key, duration, gap in calls_of(span):
                    cell = cells[(minute, *key)]
                    cell[0] += 1
                    cell[1] += span.failed
                    cell[2] += duration
                    if gap is not None:
                        cell[3] += gap
                        cell[4] += 1
        for (minute, caller, callee, callee_type), (calls, errors, duration, gap, gap_calls) in cells.items():
            yield {
                "start_time": moment(minute * 60 * SECOND),
                "calls": calls,
                "errors": errors,
                "calls_milli": calls * 1000,
                "errors_milli": errors * 1000,
                "duration_ns": duration,
                "gap_ns": gap,
                "gap_calls": gap_calls,
                "caller": caller,
                "callee": callee,
                "callee_type": callee_type,
            }

    def _operation_rows(self, width_s: int) -> Iterator[dict[str, Any]]:
        cells: dict[tuple[int, str, str, int], list[tuple[bytes, MadeSpan]]] = defaultdict(list)
        for trace_id, spans in self.traces:
            for span in spans:
                window = (span.start + span.duration) // (width_s * SECOND)
                cells[(window, span.service, span.operation, span.kind)].append((trace_id, span))
        for (window, service, operation, kind), members in cells.items():
            row = self._statistics(window, width_s, members)
            row |= {"service": service, "operation": operation, "kind": kind}
            row["duration_buckets"], row["duration_counts"] = histogram(span.duration for _, span in members)
            row["self_time_buckets"], row["self_time_counts"] = histogram(span.own for _, span in members)
            yield row

    def _hop_rows(self, width_s: int) -> Iterator[dict[str, Any]]:
        cells: dict[tuple[int, str, str, str], list[tuple[bytes, MadeSpan]]] = defaultdict(list)
        for trace_id, spans in self.traces:
            for span in spans:
                window = (span.start + span.duration) // (width_s * SECOND)
                for (caller, callee, _), _, _ in calls_of(span):
                    operation = span.children[0].operation if span.children else span.operation
                    cells[(window, caller, callee, operation)].append((trace_id, span))
        for (window, caller, callee, operation), members in cells.items():
            row = self._statistics(window, width_s, members)
            row |= {"caller": caller, "callee": callee, "operation": operation}
            row["duration_buckets"], row["duration_counts"] = histogram(span.duration for _, span in members)
            gaps = [span.children[0].gap for _, span in members if span.children and span.children[0].gap is not None]
            row["gap_buckets"], row["gap_counts"] = histogram(gaps)
            yield row

    def _statistics(self, window: int, width_s: int, members: list[tuple[bytes, MadeSpan]]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "start_time": moment(window * width_s * SECOND),
            "spans": len(members),
            "count_milli": 1000 * len(members),
            "error_milli": 1000 * sum(span.failed for _, span in members),
            "slowest_trace_id": max(members, key=lambda member: member[1].duration)[0],
            "failed_trace_id": next((trace_id for trace_id, span in members if span.failed), None),
        }
        if width_s == 10:
            row["source_partition"] = 0
        return row

    def _error_rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        members: dict[tuple[str, str], list[tuple[bytes, MadeSpan]]] = defaultdict(list)
        for trace_id, spans in self.traces:
            for span in spans:
                if span.failed:
                    members[(span.service, span.operation)].append((trace_id, span))
        groups, counts = [], []
        for (service, operation), failed in members.items():
            group_id = blake2b(f"{service}/{operation}".encode(), digest_size=8).hexdigest()
            failed.sort(key=lambda member: member[1].start)
            groups.append(
                {
                    "group_id": group_id,
                    "first_seen": moment(failed[0][1].start),
                    "last_seen": moment(failed[-1][1].start),
                    "service": service,
                    "operation": operation,
                    "error_type": "BankTimeout",
                    "message": "no answer within 300 ms",
                    "last_trace_id": failed[-1][0],
                }
            )
            minutes: dict[int, int] = defaultdict(int)
            for _, span in failed:
                minutes[span.start // (60 * SECOND)] += 1
            counts += [
                {
                    "start_time": moment(minute * 60 * SECOND),
                    "errors": errors,
                    "origins": errors if service.startswith("payment") and "bank" in operation else 0,
                    "group_id": group_id,
                }
                for minute, errors in minutes.items()
            ]
        return groups, counts


def calls_of(span: MadeSpan) -> list[tuple[tuple[str, str, str], int, int | None]]:
    """The hop that a client's or producer's span is: (caller, callee, type), duration, gap."""
    if span.peer:
        return [((span.service, *span.peer), span.duration, None)]
    if span.kind == 3 and span.children:
        server = span.children[0]
        return [((span.service, server.service, "service"), span.duration, server.gap)]
    return []


def alert_row(
    *,
    starts: int,
    ends: int | None = None,
    samples: list[str],
    name: str = "LatencyShift",
    service: str = "payment",
    operation: str = "charge",
    severity: str = "critical",
    summary: str = "payment takes 9 times as long as usual",
    unit: str = "ns",
    observed: float = 410e6,
    baseline: float | None = 52e6,
    replay_id: str = "",
    kind: str = "",
) -> dict[str, Any]:
    """An episode as the sink stores it."""
    labels = {"alertname": name, "service": service, "operation": operation, "severity": severity}
    if kind:
        labels["kind"] = kind
    description = f"Own time and network of {service} explain the delay of its callers: checkout, storefront."
    evidence = {
        "observed": observed,
        "baseline": baseline,
        "unit": unit,
        "count": 57,
        "sample_trace_ids": samples,
    }
    return {
        "fingerprint": fingerprint(labels),
        "starts_at_ns": starts,
        "replay_id": replay_id,
        "starts_at": moment(starts),
        "ends_at": moment(ends) if ends else None,
        "updated_at": moment(ends or starts),
        "detected_at": moment(starts + 12 * SECOND),
        "resolved_at": moment(ends) if ends else None,
        "updated_at_ns": ends or starts,
        "status": "resolved" if ends else "firing",
        "alertname": name,
        "service": service,
        "operation": operation,
        "severity": severity,
        "labels": json.dumps(labels),
        "annotations": json.dumps({"summary": summary, "description": description}),
        "evidence": json.dumps(evidence),
    }


def raw_span(trace_id: bytes, span: MadeSpan, attributes: dict[str, Any]) -> bytes:
    """The span as it would have been sent."""
    return SpanMessage(
        trace_id=trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent or b"",
        name=span.operation,
        kind=span.kind,
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.start + span.duration,
        attributes=[KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()],
    ).SerializeToString()


def histogram(values: Any) -> tuple[list[int], list[int]]:
    """Bucket indexes, ascending, and counts in thousandths."""
    counts: dict[int, int] = defaultdict(int)
    for value in values:
        counts[bucket_of(value)] += 1000
    return sorted(counts), [counts[bucket] for bucket in sorted(counts)]


def moment(time_ns: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_ns // 1000)


def copy(connection: psycopg.Connection[Any], table: str, rows: list[dict[str, Any]]) -> None:
    """Write rows, dictionaries with the same keys, by COPY."""
    if not rows:
        return
    columns = list(rows[0])
    with connection.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as writer:
        for row in rows:
            writer.write_row([row[column] for column in columns])
