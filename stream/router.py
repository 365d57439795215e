"""Whatever OTLP writers put on the Collector's topic, to records that the assembler reads: one partition each.

A record of any size, with spans of any traces and services, keyed or not, becomes at most one record a partition;
the bytes of every span stay as they came.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracecore.batch_decoding import decode_spans
from tracecore.errors import MalformedPayload
from tracecore.otlp import RejectedSpan, encode_fields, span_field
from tracecore.otlp_json import otlp_of_json
from tracecore.partition import partition_of
from tracecore.span import Resource, Scope, Span
from tracecore.span_columns import Origin
from tracecore.topics import MAX_RECORD_BYTES

#: A small record may unpack to this, at most; the broker bounds what is not packed.
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
#: Spans and their resources in a record; leaves room for headers and a batch below MAX_RECORD_BYTES.
_CHUNK_BYTES = MAX_RECORD_BYTES * 6 // 10
#: What stands around a resource and a scope, at most.
_ORIGIN_OVERHEAD_BYTES = 40


class Run(NamedTuple):
    """Spans of one origin as ``otlp.span_field`` writes them, one after the other."""

    origin: Origin
    fields: bytes | memoryview
    spans: int


def decode_record(value: bytes) -> tuple[list[Span], list[RejectedSpan]]:
    """Spans of a record that any OTLP tool may have written: protobuf or JSON, as it is or in gzip.

    Raises ``MalformedPayload``.
    """
    if value.startswith(_GZIP_MAGIC):
        value = _unpacked(value)
    # A request in protobuf begins with its only field, number 1: the byte of a line feed, of all things.
    if value[:1] == b"\n":
        try:
            return decode_spans(value)
        except MalformedPayload:
            if not _looks_like_json(value):
                raise
    if _looks_like_json(value):
        value = otlp_of_json(value)
    return decode_spans(value)


def split_by_partition(spans: Iterable[Span], partitions: int) -> dict[int, list[Span]]:
    """Spans by the partition of their trace, in their order."""
    split: dict[int, list[Span]] = {}
    known: dict[bytes, int] = {}
    for span in spans:
        partition = known.get(span.trace_id)
        if partition is None:
            partition = known[span.trace_id] = partition_of(span.trace_id, partitions)
        split.setdefault(partition, []).append(span)
    return split


def encoded_records(spans: Iterable[Span]) -> Iterator[bytes]:
    """Spans of one partition as records, each below Kafka's limit as far as its spans allow."""
    gathering = Gathering()
    gathering.add_spans(spans)
    return gathering.records()


class Gathering:
    """Spans of one partition that wait to be sent on."""

    def __init__(self) -> None:
        #: How many they are.
        self.spans = 0
        self._fields: dict[tuple[Resource, Scope], list[bytes | memoryview]] = {}

    def add(self, run: Run) -> None:
        """Add spans of one origin."""
        self._fields.setdefault(run.origin, []).append(run.fields)
        self.spans += run.spans

    def add_spans(self, spans: Iterable[Span]) -> None:
        """Add spans one by one."""
        for span in spans:
            self.add(Run(Origin(span.resource, span.scope), span_field(span.raw), 1))

    def records(self) -> Iterator[bytes]:
        """All of them as records, each below Kafka's limit as far as its runs allow."""
        chunk: dict[tuple[Resource, Scope], list[bytes | memoryview]] = {}
        size = 0
        for origin, runs in self._fields.items():
            origin_size = _ORIGIN_OVERHEAD_BYTES + sum(len(part.raw) + len(part.schema_url) * 4 for part in origin)
            for fields in runs:
                if chunk and size + len(fields) + origin_size > _CHUNK_BYTES:
                    yield encode_fields(chunk)
                    chunk, size = {}, 0
                if origin not in chunk:
                    chunk[origin] = []
                    size += origin_size
                chunk[origin].append(fields)
                size += len(fields)
        if chunk:
            yield encode_fields(chunk)


def _looks_like_json(value: bytes) -> bool:
    return value.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def _unpacked(value: bytes) -> bytes:
    try:
        unpacker = zlib.decompressobj(wbits=31)
        unpacked = unpacker.decompress(value, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise MalformedPayload(f"gzip does not unpack: {error}") from None
    if unpacker.unconsumed_tail:
        raise MalformedPayload(f"gzip unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if not unpacker.eof:
        raise MalformedPayload("gzip ends early")
    return unpacked
