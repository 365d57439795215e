"""A worker that has compiled publishes what one publishes that has not: the recorded systems through both."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from stream import closing, compiled, revision_columns, trace_rows, window_tally
from stream.alerting.settings import AlertingSettings
from stream.assembler import Arrived, SpanBudget
from stream.closing import Closing
from stream.detection import usual_spans
from stream.detection_agents import Judges
from stream.hooks import Hooks
from stream.outgoing import Outgoing, OutgoingRecord, one_by_one
from stream.pipeline import Pipeline, Rules
from stream.router import split_by_partition
from stream.rules_source import RulesSource
from stream.sampling import SamplingRule
from stream.settings import StreamSettings
from tests.tracecore.builders import MS, T0_NS, span, trace_id
from tests.tracecore.recordings import deliveries
from tracecore import (
    batch_decoding,
    forest,
    link_columns,
    named_peers,
    otlp,
    otlp_scan,
    packing,
    shared_tables,
)
from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.otlp import encode_spans
from tracecore.record_spans import RecordSpans
from tracecore.span import Span
from tracecore.topics import Topics
from tracecore.wire import decode_trace

PARTITIONS = 4
RECORDS = {"ob22": 120, "tt29": 700}
COMPILED = [
    forest._analyse, link_columns._tell, named_peers._number, otlp_scan._scan, packing._pack,
    shared_tables._number,
    trace_rows.take, trace_rows.advance, trace_rows.move, trace_rows.shed, trace_rows.finish,
    trace_rows.replace, trace_rows.list_spans,
    revision_columns._lay_out, revision_columns._copy_bytes, window_tally._tally,
    usual_spans._learn, usual_spans._follow_answers,
]  # fmt: skip

Decode = Callable[[bytes], RecordSpans | list[Span]]
RULES = RulesSource(AlertingSettings().alert_rules)
Placed = dict[tuple[str, int | None], list[OutgoingRecord]]


def decoded(value: bytes) -> RecordSpans | list[Span]:
    """As a worker decodes."""
    (columns,) = batch_decoding.decode_together([value])
    return otlp.decode_spans(value)[0] if columns is None else columns


def published(
    arrivals: Iterable[tuple[int, bytes]],
    decode: Decode,
    at_once: int,
    judges: Judges,
    sampling: SamplingRule | None = None,
) -> Placed:
    """All that comes of requests, detection's findings included, when so many are taken in one go; by topic, and by
    partition if it is known."""
    settings = StreamSettings()
    rules = Rules(Topics(), settings.limits, settings.window_limits, sampling or settings.sampling, PARTITIONS)
    budget, waiting = SpanBudget(10**7), Closing()
    pipelines = [
        Pipeline(partition, rules, budget, Hooks(judges, judges, judges), "", waiting)
        for partition in range(PARTITIONS)
    ]
    arrived: list[list[Arrived]] = [[] for _ in pipelines]
    out: list[Outgoing] = []

    def take() -> None:
        for pipeline, records in zip(pipelines, arrived, strict=True):
            out.extend(pipeline.take_together(records) if records else [])
            records.clear()
        out.extend(waiting.published())

    last_ns = 0
    for offset, (arrival_ns, value) in enumerate(arrivals):
        last_ns = max(last_ns, arrival_ns)
        for partition, share in split_by_partition(otlp.decode_spans(value)[0], PARTITIONS).items():
            arrived[partition].append(Arrived(decode(encode_spans(share)), offset, arrival_ns))
        if offset % at_once == 0:
            take()
    take()
    for pipeline in pipelines:
        out += pipeline.advance(last_ns + 10**12)
    found: Placed = {}
    for record in one_by_one(out):
        found.setdefault((record.topic, record.partition), []).append(record)
    return found


def plain(value: bytes) -> list[Span]:
    """As a worker decodes that has not compiled."""
    return otlp.decode_spans(value)[0]


@pytest.mark.parametrize("at_once", [1, 16, 100])
@pytest.mark.parametrize("name", ["ob22", "tt29"])
def test_compiled_or_not_the_same_records_are_published(
    shared_data: Path, name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled.warm_up()
    known = [len(function.signatures) for function in COMPILED]
    arrivals = list(islice(deliveries(shared_data, name), RECORDS[name]))
    out = published(arrivals, decoded, at_once, Judges(RULES))
    assert out
    # Nothing that comes is of other types than what was compiled: a worker never stands still to compile.
    assert [len(function.signatures) for function in COMPILED] == known
    monkeypatch.setattr(closing, "is_compiled", lambda: False)
    assert published(arrivals, plain, at_once, Judges(RULES)) == out


class Breaks(Judges):
    """Has a bug that one trace shows."""

    def on_traces(self, closed: Sequence[ClosedTrace]) -> dict[int, list[Finding]]:
        if any(trace.trace_id == trace_id(BROKEN) for trace in closed):
            raise RuntimeError("a bug")
        return super().on_traces(closed)


BROKEN, LARGE, FAILED, HOLED, LATE, MISDATED = 3, 7, 11, 15, 19, 23


def odd_and_even() -> Iterator[tuple[int, bytes]]:
    """Sixty traces, with something about some of them for which they do not go in a run; within one window's time."""
    roots = [span(f"GET /{number % 5}", trace=number, duration_ms=50, start_ms=10 * number) for number in range(1, 61)]
    for number, root in enumerate(roots, 1):
        below = [span(parent=HOLED if number == HOLED else root, trace=number, start_ms=10 * number + 1)]
        if number == LARGE:
            below += [span(parent=root, attributes={"blob": "x" * 300_000}) for _ in range(4)]
        if number == FAILED:
            below.append(span(parent=root, error="no"))
        if number == MISDATED:
            below.append(span(parent=root, start_ms=10**9))
        yield T0_NS + (100 + 10 * number) * MS, encode_spans([root, *below])
    # The first has closed by then, and waits; then once more, for traces to close of which the late one is second.
    yield T0_NS + 3_500 * MS, encode_spans([span(parent=roots[LATE - 1])])
    yield T0_NS + 7_000 * MS, encode_spans([span(trace=100)])


@pytest.mark.parametrize("sampling", [None, SamplingRule(share=0.3)])
@pytest.mark.parametrize("judges", [Judges, Breaks])
def test_what_is_odd_goes_alone_and_each_partition_keeps_its_order(
    judges: type[Judges], sampling: SamplingRule | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled.warm_up()
    arrivals = list(odd_and_even())
    out = published(arrivals, decoded, 1_000, judges(RULES), sampling)
    traces = [
        decode_trace(record.value) for (topic, _), its in out.items() if topic == Topics().traces for record in its
    ]
    parts = {trace.parts for trace in traces if trace.trace_id == trace_id(LARGE)}
    revisions = [trace.revision for trace in traces if trace.trace_id == trace_id(LATE)]
    if sampling is None:
        assert parts == {2}
        assert revisions == [1, 2]
    assert ((Topics().dead_letters, None) in out) == (judges is Breaks)
    monkeypatch.setattr(closing, "is_compiled", lambda: False)
    assert published(arrivals, plain, 1_000, judges(RULES), sampling) == out
