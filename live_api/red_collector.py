"""``red.Red`` as Prometheus metric families, with exemplars where the scraper reads OpenMetrics."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar as PrometheusExemplar

from live_api.red import BOUNDS_S, Exemplar, Red
from live_api.views import kind_name

_LABELS = ("service", "operation", "kind")


class RedCollector:
    """A collector for ``prometheus_client``."""

    def __init__(self, red: Red) -> None:
        self._red = red

    def describe(self) -> Iterable[Metric]:
        """Nothing: names need not be reserved."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Both families. O(operations)."""
        durations = HistogramMetricFamily(
            "tracewatch_operation_duration_seconds",
            "Duration of an operation's spans since live_api began; weighted by head sampling.",
            labels=_LABELS,
        )
        errors = CounterMetricFamily(
            "tracewatch_operation_errors",
            "Spans of an operation that failed, weighted by head sampling.",
            labels=_LABELS,
        )
        bounds = [*map(str, BOUNDS_S), "+Inf"]
        for (service, name, kind), operation in list(self._red.operations.items()):
            labels = (service, name, kind_name(kind))
            cumulated = accumulate(operation.durations)
            buckets: list[tuple[str, float] | tuple[str, float, PrometheusExemplar]] = [
                (bound, count / 1000, exemplar)
                if (exemplar := _exemplar(operation.slowest.get(place)))
                else (bound, count / 1000)
                for place, (bound, count) in enumerate(zip(bounds, cumulated, strict=True))
            ]
            durations.add_metric(labels, buckets, operation.sum_milli_ns / 1e12)
            sample = dict(zip(_LABELS, labels, strict=True))
            errors.add_sample(
                "tracewatch_operation_errors_total",
                sample,
                operation.error_milli / 1000,
                exemplar=_exemplar(operation.failed),
            )
        yield durations
        yield errors


def _exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    if exemplar is None:
        return None
    return PrometheusExemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.time_ns / 1e9)
