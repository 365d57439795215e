"""Exports of Jaeger and Zipkin as sources."""

import asyncio
import json
from pathlib import Path

import pytest

from replay.errors import SourceUnreadable
from replay.records import SourceRecord, spans_of
from replay.sources.json_export import JsonExport
from replay.stretch import Stretch
from tests.tracecore.test_jaeger_json import T0_US, jaeger, one


def read(source: JsonExport) -> list[SourceRecord]:
    async def all_records() -> list[SourceRecord]:
        return [record async for record in source.records()]

    return asyncio.run(all_records())


def test_each_trace_is_a_record_that_arrives_when_its_latest_span_ends(tmp_path: Path) -> None:
    path = tmp_path / "jaeger.json"
    later = one(traceID="cd", startTime=T0_US + 1_000_000)
    path.write_bytes(jaeger(later, one(), one(spanID="2", duration=9000)))
    records = read(JsonExport(path, "jaeger", Stretch()))
    assert [len(spans_of(record)[0]) for record in records] == [2, 1]
    assert [record.arrival_ns for record in records] == [(T0_US + 9000) * 1000, (T0_US + 1_001_500) * 1000]
    assert len(read(JsonExport(path, "jaeger", Stretch(from_ns=(T0_US + 10_000) * 1000)))) == 1


def test_every_recorded_export_of_zipkin_is_read_whole(shared_data: Path) -> None:
    paths = sorted((shared_data / "fixtures" / "zipkin").glob("*.json"))
    assert paths
    for path in paths:
        spans = json.loads(path.read_bytes())
        records = read(JsonExport(path, "zipkin", Stretch()))
        assert sum(len(spans_of(record)[0]) for record in records) == len(spans), path.name
        assert len(records) == len({span["traceId"].zfill(32) for span in spans}), path.name


def test_what_is_no_export_is_named(tmp_path: Path) -> None:
    path = tmp_path / "zipkin.json"
    path.write_text("{}")
    with pytest.raises(SourceUnreadable, match=r"zipkin\.json"):
        JsonExport(path, "zipkin", Stretch())
