"""OTLP files, plain and packed."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest
import zstandard

from replay.errors import SourceUnreadable
from replay.records import SourceRecord, spans_of
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch
from tests.replay.troubled import delimited
from tests.tracecore.builders import MS, T0_NS, order_spans
from tracecore.otlp import encode_spans

S = 1_000_000_000
EVERYTHING = Stretch()


REQUESTS = [encode_spans(order_spans(number + 1, start_ms=number * 1000)) for number in range(3)]


def read(path: Path, stretch: Stretch = EVERYTHING) -> list[SourceRecord]:
    async def all_records() -> list[SourceRecord]:
        return [record async for record in OtlpFile(path, stretch).records()]

    return asyncio.run(all_records())


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["", "gz", "zst"])
def test_length_delimited_requests_are_read_however_they_are_packed(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "day.otlp"
    path.write_bytes(pack(delimited(*REQUESTS)))
    assert [record.value for record in read(path)] == REQUESTS
    assert [record.position for record in read(path)] == [0, 1, 2]


def test_a_request_without_a_known_delivery_arrives_when_its_latest_span_ends_and_never_before_the_last(
    tmp_path: Path,
) -> None:
    path = tmp_path / "day.otlp"
    path.write_bytes(delimited(REQUESTS[0], REQUESTS[2], REQUESTS[1]))
    arrivals = [record.arrival_ns for record in read(path)]
    assert arrivals[0] == max(span.end_ns for span in order_spans(1))
    assert arrivals[1] == arrivals[2] == arrivals[0] + 2 * S


def test_an_index_tells_when_each_was_delivered_and_the_stretch_cuts_by_that(tmp_path: Path) -> None:
    path = tmp_path / "day.otlp.zst"
    path.write_bytes(zstandard.compress(delimited(*REQUESTS)))
    rows = "offset,length,delivery_unix_nano\n" + "".join(f"0,0,{T0_NS + number * S}\n" for number in range(3))
    (tmp_path / "day.idx.csv.zst").write_bytes(zstandard.compress(rows.encode()))
    assert [record.arrival_ns for record in read(path)] == [T0_NS, T0_NS + S, T0_NS + 2 * S]
    (cut,) = read(path, Stretch(T0_NS + S, T0_NS + S + MS))
    assert (cut.position, cut.value) == (0, REQUESTS[1])
    assert OtlpFile(path, Stretch(T0_NS + S)).total_records == 2


def test_json_lines_are_read_line_by_line(tmp_path: Path) -> None:
    line = json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": "5b8efff798038103d269b633813fc60c",
                                    "spanId": "eee19b7ec3c1b174",
                                    "name": "work",
                                    "startTimeUnixNano": str(T0_NS),
                                    "endTimeUnixNano": str(T0_NS + S),
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    )
    path = tmp_path / "spans.jsonl"
    path.write_text(f"{line}\n\n{line}\nnot json\n")
    records = read(path)
    assert [record.arrival_ns for record in records] == [T0_NS + S] * 3
    (span,), _ = spans_of(records[1])
    assert (span.service, span.name) == ("web", "work")


@pytest.mark.parametrize("content", [delimited(*REQUESTS)[:-1], b"\xff" * 40], ids=["cut off", "no protobuf"])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "day.otlp"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable, match=r"day\.otlp"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"none\.otlp.*No such file"):
        read(tmp_path / "none.otlp")
