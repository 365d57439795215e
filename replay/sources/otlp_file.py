"""OTLP files: length-delimited protobuf, or JSON lines; plain, gzip or zstd.

Length-delimited: each ExportTraceServiceRequest behind its length as a varint. Beside ``NAME.otlp.zst`` an index
``NAME.idx.csv.zst`` (offset, length, delivery_unix_nano, ...) may tell when each was delivered; without one, a request
counts as delivered when its latest span ended.
"""

import csv
import gzip
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from replay.errors import SourceUnreadable
from replay.records import SourceRecord, spans_of
from replay.stretch import Stretch
from tracecore.errors import MalformedPayload

_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_MAX_REQUEST_BYTES = 64_000_000


class OtlpFile:
    """A recording of OTLP requests."""

    def __init__(self, path: Path, stretch: Stretch) -> None:
        self._path = path
        self._stretch = stretch
        self._deliveries = _deliveries(path)
        self.total_records = None if self._deliveries is None else sum(map(stretch.holds, self._deliveries))

    @property
    def name(self) -> str:
        """``otlp:FILE``."""
        return f"otlp:{self._path.name}"

    async def records(self) -> AsyncIterator[SourceRecord]:
        """Requests in the file's order; one that cannot be read arrives with the one before it."""
        position, arrival_ns = 0, 0
        with opened(self._path) as file:
            for number, value in enumerate(_requests(file, self._path)):
                if self._deliveries is not None and number < len(self._deliveries):
                    arrival_ns = self._deliveries[number]
                else:
                    # A file has an order; its arrival never goes back.
                    arrival_ns = max(arrival_ns, _latest_end_ns(value))
                if self._stretch.holds(arrival_ns):
                    yield SourceRecord(position, arrival_ns, value)
                    position += 1


def opened(path: Path) -> BinaryIO:
    """A file for reading, unpacked if it is packed. Raises ``SourceUnreadable``."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceUnreadable(f"{path}: {error.strerror}") from None
    start = file.peek(4)[:4]
    if start == _ZSTD:
        return cast(BinaryIO, io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file), 1 << 20))
    if start[:2] == _GZIP:
        file.close()  # gzip would leave it open
        return cast(BinaryIO, gzip.open(path))
    return file


def _requests(file: BinaryIO, path: Path) -> Iterator[bytes]:
    first = file.read(1)
    if first in (b"{", b"["):
        yield from (line for line in io.BytesIO(first + file.read()) if line.strip())
        return
    while first:
        length = shift = 0
        byte = first[0]
        while byte >= 128:
            length |= (byte & 127) << shift
            shift += 7
            more = file.read(1)
            if not more or shift > 28:
                raise SourceUnreadable(f"{path}: neither JSON lines nor length-delimited protobuf")
            byte = more[0]
        length |= byte << shift
        value = file.read(length) if length <= _MAX_REQUEST_BYTES else b""
        if len(value) != length:
            raise SourceUnreadable(f"{path}: cut off, or no length-delimited protobuf")
        yield value
        first = file.read(1)


def _deliveries(path: Path) -> list[int] | None:
    index = path.with_name(path.name.replace(".otlp", ".idx.csv", 1))
    if index == path or not index.exists():
        return None
    with opened(index) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8"))
        try:
            return [int(row["delivery_unix_nano"]) for row in rows]
        except (KeyError, ValueError) as error:
            raise SourceUnreadable(f"{index}: no index of deliveries ({error})") from None


def _latest_end_ns(value: bytes) -> int:
    try:
        return max((span.end_ns for span in spans_of(SourceRecord(0, 0, value))[0]), default=0)
    except MalformedPayload:
        return 0
