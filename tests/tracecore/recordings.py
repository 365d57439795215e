"""The recorded data sets, record by record."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import zstandard


def records(folder: Path, name: str, limit: int | None = None) -> Iterator[bytes]:
    """The first ``limit`` ExportTraceServiceRequests of recording ``name``, in the order of their delivery."""
    unpack = zstandard.ZstdDecompressor()
    with (folder / f"{name}.idx.csv.zst").open("rb") as packed:
        index = list(csv.DictReader(io.TextIOWrapper(unpack.stream_reader(packed))))
    position = 0
    with (folder / f"{name}.otlp.zst").open("rb") as packed, unpack.stream_reader(packed) as stream:
        for row in index[:limit]:
            offset, length = int(row["offset"]), int(row["length"])
            stream.read(offset - position)
            yield stream.read(length)
            position = offset + length


def deliveries(folder: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """Every record of recording ``name`` with when it was delivered, Unix nanoseconds."""
    unpack = zstandard.ZstdDecompressor()
    with (folder / f"{name}.idx.csv.zst").open("rb") as packed:
        rows = csv.DictReader(io.TextIOWrapper(unpack.stream_reader(packed)))
        times = [int(row["delivery_unix_nano"]) for row in rows]
    yield from zip(times, records(folder, name), strict=True)
