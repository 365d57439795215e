"""What operators see on /metrics. Read from the state at the moment of the scrape: no span pays for it."""

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from stream.assembler import Counts
from stream.outlet import Outlet
from stream.pipeline import Pipeline, Tally
from stream.router_agent import RouterAgent
from stream.span_agent import SpanAgent


class Metrics:
    """The worker's metrics, in a registry of its own."""

    def __init__(self, spans: SpanAgent, router: RouterAgent | None, outlet: Outlet) -> None:
        self._spans = spans
        self._router = router
        self._outlet = outlet
        self._registry = CollectorRegistry()
        self._registry.register(self)  # type: ignore[arg-type]

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def lags(self) -> dict[int, int]:
        """Records that stand in the topic and were not read yet, by partition; as the last fetch told."""
        return self._spans.lags()

    def seconds_without_progress(self) -> float:
        """How long no record was read."""
        return time.monotonic() - self._spans.last_progress_at

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        agent = self._spans
        pipelines = agent.all_pipelines()
        counts, tally = _summed_counts(agent.closed_counts, pipelines), _summed_tally(agent.closed_tally, pipelines)
        yield _gauge("open_traces", "Traces that have not closed.", sum(p.assembler.open_traces for p in pipelines))
        yield _gauge("held_spans", "Spans in memory, open or to be amended.", agent.budget.held)
        lag = GaugeMetricFamily("tracewatch_stream_consumer_lag_records", "Records not read yet.", labels=["partition"])
        behind = GaugeMetricFamily(
            "tracewatch_stream_watermark_lag_seconds", "How far a partition's arrival watermark is behind the clock.",
            labels=["partition"],
        )  # fmt: skip
        held = GaugeMetricFamily(
            "tracewatch_stream_uncommitted_records", "Records that open traces and windows still rest on.",
            labels=["partition"],
        )  # fmt: skip
        for partition, records in sorted(agent.lags().items()):
            lag.add_metric([str(partition)], records)
        now_ns = time.time_ns()
        for source in sorted(agent.sources.values(), key=lambda source: source.partition):
            label = [str(source.partition)]
            held.add_metric(label, source.cursor.next_offset - source.watermark())
            if source.told_ns:
                behind.add_metric(label, (now_ns - source.told_ns) / 1e9)
        yield from (lag, behind, held)
        closed = CounterMetricFamily("tracewatch_stream_closed_traces", "Revisions of traces.", labels=["reason"])
        for reason, count in sorted(counts.closed.items()):
            closed.add_metric([reason], count)
        yield closed
        yield _counter("records", "Records of spans that were read.", agent.records_total)
        yield _counter("spans", "Spans that were assembled.", counts.spans)
        yield _counter("duplicate_spans", "Spans that were there already.", counts.duplicates)
        yield _counter("late_spans", "Spans that came after their trace had closed.", counts.late_spans)
        yield _counter("orphan_spans", "Spans whose parent was missing as their trace closed.", tally.orphan_spans)
        yield _counter("rootless_traces", "Traces that closed without a root.", tally.rootless_traces)
        yield _counter("shed_traces", "Traces closed early for want of memory.", counts.shed_traces)
        yield _counter("forgotten_traces", "Traces forgotten early for want of memory.", counts.forgotten_early)
        yield _counter("misdated_spans", "Spans counted at their arrival.", tally.misdated_spans)
        yield _counter("trace_records", "Records of traces that were published.", tally.trace_records)
        yield _counter("sampled_out_traces", "Revisions that tail sampling withheld.", tally.sampled_out)
        yield _counter("windows", "Windows that were published.", tally.windows)
        yield _counter("findings", "Findings that were published.", tally.findings)
        yield _counter(
            "dead_letters", "Records and spans that could not be read.", agent.dead_letters_total + tally.dead_letters
        )
        yield _counter(
            "oversized_records", "Records that the broker refused for their size.", self._outlet.oversized_total
        )
        yield _counter("commits", "Commits of watermarks.", agent.commits_total)
        yield _counter("gaps", "Times that records were missing and read again.", agent.gaps_total)
        yield _counter("rebalances", "Assignments of partitions.", agent.rebalances_total)
        if self._router is not None:
            yield _counter("routed_records", "Records of the Collector's topic.", self._router.records_total)
            yield _counter("routed_spans", "Spans of the Collector's topic.", self._router.spans_total)
            yield _counter(
                "unroutable", "Records and spans of it that could not be read.", self._router.dead_letters_total
            )


def _summed_counts(closed: Counts, pipelines: list[Pipeline]) -> Counts:
    total = Counts()
    for counts in (closed, *(pipeline.assembler.counts for pipeline in pipelines)):
        total.add(counts)
    return total


def _summed_tally(closed: Tally, pipelines: list[Pipeline]) -> Tally:
    total = Tally()
    for tally in (closed, *(pipeline.tally for pipeline in pipelines)):
        total.add(tally)
    return total


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tracewatch_stream_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Any:
    return CounterMetricFamily(f"tracewatch_stream_{name}", text, value=value)
