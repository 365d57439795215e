"""Jaeger's metrics API (Jaeger UI's Monitor page) over our minutes: latencies, call rates, error rates.

A point at time t covers the ``rate_ns`` before it. Source: Jaeger, ``metricstore`` and its query parameters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from live_api.errors import InvalidParameter
from live_api.parameters import Parameters, span_kind_of
from live_api.trace_query import timestamp
from tracecore.buckets import Buckets, quantile
from tracecore.span import SpanKind

MetricName = Literal["latencies", "calls", "errors"]

_MILLISECOND_NS = 1_000_000
_MINUTE_NS = 60_000_000_000
_HOUR_NS = 60 * _MINUTE_NS
_MAX_POINTS = 11_000
#: What is finer than our minutes is not to be had.
MIN_STEP_MS = 60_000
_MAX_SERVICES = 50


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """Points from ``start_ns`` to ``end_ns``, ``step_ns`` apart."""

    services: tuple[str, ...]
    kinds: tuple[int, ...]
    by_operation: bool
    start_ns: int
    end_ns: int
    step_ns: int
    rate_ns: int
    quantile: float

    @property
    def by_hours(self) -> bool:
        """True if hours are fine enough: they are sixty times fewer."""
        return self.step_ns >= _HOUR_NS and self.rate_ns >= _HOUR_NS


@dataclass(frozen=True, slots=True)
class Point:
    """What happened at an operation in the minute or hour that begins at ``start_ns``."""

    service: str
    operation: str
    start_ns: int
    count_milli: int
    error_milli: int
    duration: Buckets


def metrics_query(parameters: Parameters, name: MetricName, now_ns: int) -> MetricsQuery:
    """The query of ``/api/metrics/*``. Raises ``InvalidParameter``."""
    # Jaeger UI joins several services as "a,service=b".
    services = tuple(
        dict.fromkeys(
            each.removeprefix("service=") for text in parameters.texts("service") for each in text.split(",") if each
        )
    )
    if not services or len(services) > _MAX_SERVICES:
        raise InvalidParameter("service", f"is required, {_MAX_SERVICES} of them at most")
    end_ns = parameters.unix_time("endTs", _MILLISECOND_NS, now_ns)
    lookback_ns = parameters.duration("lookback", _MILLISECOND_NS, _HOUR_NS)
    step_ns = max(parameters.duration("step", _MILLISECOND_NS, _MINUTE_NS), MIN_STEP_MS * _MILLISECOND_NS)
    if lookback_ns // step_ns > _MAX_POINTS:
        raise InvalidParameter("step", f"gives more than {_MAX_POINTS} points; make it longer")
    kinds = tuple(span_kind_of("spanKind", kind) for kind in parameters.texts("spanKind")) or (SpanKind.SERVER,)
    return MetricsQuery(
        services=services,
        kinds=kinds,
        by_operation=parameters.boolean("groupByOperation"),
        start_ns=max(0, end_ns - lookback_ns),
        end_ns=end_ns,
        step_ns=step_ns,
        rate_ns=max(parameters.duration("ratePer", _MILLISECOND_NS, 10 * _MINUTE_NS), _MINUTE_NS),
        quantile=_quantile(parameters.required("quantile")) if name == "latencies" else 0.0,
    )


def points_of(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Rows of ``statements.OPERATION_MINUTES``."""
    return [
        Point(
            row["service"],
            row["operation"],
            _unix_ns(row["start_time"]),
            row["count_milli"],
            row["error_milli"],
            dict(zip(row["duration_buckets"], row["duration_counts"], strict=True)),
        )
        for row in rows
    ]


def metric_family(name: MetricName, query: MetricsQuery, points: Iterable[Point]) -> dict[str, Any]:
    """The answer: a gauge a service, or a service and operation. O(points + steps x buckets)."""
    series: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        series.setdefault((point.service, point.operation if query.by_operation else ""), []).append(point)
    middle = "_operation" if query.by_operation else ""
    return {
        "name": f"service{middle}_{'call_rate' if name == 'calls' else 'error_rate' if name == 'errors' else name}",
        "type": "GAUGE",
        "help": _HELP[name],
        "metrics": [
            {
                "labels": [
                    *([{"name": "operation", "value": operation}] if query.by_operation else []),
                    {"name": "service_name", "value": service},
                ],
                "metricPoints": _gauge(name, query, sorted(each, key=lambda point: point.start_ns)),
            }
            for (service, operation), each in sorted(series.items())
        ],
    }


_HELP: Mapping[MetricName, str] = {
    "latencies": "quantile of span durations in milliseconds",
    "calls": "calls per second",
    "errors": "share of calls that failed",
}


def _gauge(name: MetricName, query: MetricsQuery, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Slide a window of ``rate_ns`` over the points, which stand in order of time."""
    found = []
    total, errors, duration = 0, 0, Buckets()
    first = last = 0
    for at_ns in range(query.start_ns, query.end_ns + 1, query.step_ns):
        while last < len(points) and points[last].start_ns < at_ns:
            total, errors = total + points[last].count_milli, errors + points[last].error_milli
            for bucket, count in points[last].duration.items():
                duration[bucket] = duration.get(bucket, 0) + count
            last += 1
        while first < last and points[first].start_ns < at_ns - query.rate_ns:
            total, errors = total - points[first].count_milli, errors - points[first].error_milli
            for bucket, count in points[first].duration.items():
                duration[bucket] -= count
                if not duration[bucket]:
                    del duration[bucket]
            first += 1
        if first == last:
            continue  # Jaeger UI draws a gap where there is no point
        if name == "latencies":
            value = quantile(duration, query.quantile) / 1e6
        elif name == "calls":
            value = total / 1000 / (query.rate_ns / 1e9)
        else:
            value = errors / total if total else 0.0
        found.append({"gaugeValue": {"doubleValue": value}, "timestamp": _rfc3339(at_ns)})
    return found


def _quantile(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise InvalidParameter("quantile", "must be a number above 0, up to 1")
    return value


def _unix_ns(time: datetime) -> int:
    return round(time.timestamp()) * 1_000_000_000


def _rfc3339(time_ns: int) -> str:
    return timestamp(time_ns).isoformat().replace("+00:00", "Z")
