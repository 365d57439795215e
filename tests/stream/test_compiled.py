"""A worker that has compiled publishes what one publishes that has not: the recorded systems through both."""

from collections.abc import Callable
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
from stream.settings import StreamSettings
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
from tracecore.otlp import encode_spans
from tracecore.record_spans import RecordSpans
from tracecore.span import Span
from tracecore.topics import Topics

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
Placed = dict[tuple[str, int | None], list[OutgoingRecord]]


def decoded(value: bytes) -> RecordSpans | list[Span]:
    """As a worker decodes."""
    (columns,) = batch_decoding.decode_together([value])
    return otlp.decode_spans(value)[0] if columns is None else columns


def published(
    folder: Path, name: str, decode: Decode, at_once: int
) -> dict[tuple[str, int | None], list[OutgoingRecord]]:
    """All that comes of a recording, detection's findings included, when so many records are taken in one go; by topic,
    and by partition if it is known."""
    settings = StreamSettings()
    rules = Rules(Topics(), settings.limits, settings.window_limits, settings.sampling, PARTITIONS)
    judges = Judges(RulesSource(AlertingSettings().alert_rules))
    budget, waiting = SpanBudget(10**7), Closing()
    pipelines = [
        Pipeline(partition, rules, budget, Hooks(judges, judges, judges), "", waiting)
        for partition in range(PARTITIONS)
    ]
    arrived: list[list[Arrived]] = [[] for _ in pipelines]
    out: list[Outgoing] = []
    last_ns = 0
    for offset, (arrival_ns, value) in enumerate(islice(deliveries(folder, name), RECORDS[name])):
        last_ns = max(last_ns, arrival_ns)
        for partition, share in split_by_partition(otlp.decode_spans(value)[0], PARTITIONS).items():
            arrived[partition].append(Arrived(decode(encode_spans(share)), offset, arrival_ns))
        if offset % at_once == 0:
            for pipeline, records in zip(pipelines, arrived, strict=True):
                out += pipeline.take_together(records) if records else []
                records.clear()
            out += waiting.published()
    for pipeline, records in zip(pipelines, arrived, strict=True):
        out += pipeline.take_together(records) if records else []
        out += pipeline.advance(last_ns + 10**12)
    found: Placed = {}
    for record in one_by_one(out):
        found.setdefault((record.topic, record.partition), []).append(record)
    return found


@pytest.mark.parametrize("at_once", [1, 16, 100])
@pytest.mark.parametrize("name", ["ob22", "tt29"])
def test_compiled_or_not_the_same_records_are_published(
    shared_data: Path, name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled.warm_up()
    known = [len(function.signatures) for function in COMPILED]
    out = published(shared_data, name, decoded, at_once)
    assert out
    # Nothing that comes is of other types than what was compiled: a worker never stands still to compile.
    assert [len(function.signatures) for function in COMPILED] == known
    monkeypatch.setattr(closing, "is_compiled", lambda: False)
    assert published(shared_data, name, lambda value: otlp.decode_spans(value)[0], at_once) == out
