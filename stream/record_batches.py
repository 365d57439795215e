"""Kafka's batches of records (version 2), written by compiled code: what aiokafka's own builder writes is meant.

aiokafka takes each record by itself, and its CRC-32C is of tables, which took as long as all else (1.3 GB/s). Here
records are gathered, written together, and the CRC is the processor's own (5 GB/s). Compiling is numba's, as in
``tracecore.forest``; where the processor has no such instruction there is nothing to gain, and nothing is compiled.

Source: Kafka, DefaultRecordBatch and DefaultRecord.
"""

import platform
import struct
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from stream.outgoing import OutgoingRun
from tracecore.byte_runs import copied
from tracecore.compiling import uncounted

#: All that stands before the records: base offset, length, epoch of the leader, version, CRC; then, under the CRC:
#: attributes, last offset, first and last timestamp, producer's id and epoch, base sequence, how many records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_CRC_AT, _CRC_FROM, _LENGTH_FROM = 17, 21, 12
#: So many bytes before the header, so that what the CRC covers begins at a whole word.
_BEFORE = 3
#: At most, beside key, value and headers: a length, attributes, a timestamp, an offset, two lengths.
_RECORD_BYTES = 5 + 1 + 10 + 5 + 5 + 5
_VERSION, _NO_PRODUCER = 2, -1
_NO_HEADERS = b"\0"

_warm = threading.Event()

Array = np.ndarray[Any, Any]
Headers = Sequence[tuple[str, bytes | None]]


class RecordBatch:
    """Records of one partition: stands in for aiokafka's ``BatchBuilder``, without compression and transactions."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._size = _HEADER.size
        self._is_closed = False
        self._pieces: list[_Singles | _Part] = []
        self._count = 0
        self._built: memoryview | None = None

    def append(self, *, timestamp: int, key: bytes | None, value: bytes, headers: Headers = ()) -> int | None:
        """Add a record of a time in Unix ms; returns its number, or None if the batch is full or closed.

        The first record is always taken, so that the broker is asked about one that is too large.
        """
        told = _headers(tuple(headers)) if headers else _NO_HEADERS
        size = self._size + _RECORD_BYTES + len(value) + len(told) + (len(key) if key is not None else 0)
        if self._is_closed or (size > self._batch_size and self._count):
            self._is_closed = True
            return None
        self._size = size
        last = self._pieces[-1] if self._pieces else None
        if not isinstance(last, _Singles):
            last = _Singles()
            self._pieces.append(last)
        last.parts += (b"" if key is None else key, value, told)
        last.lengths += (-1 if key is None else len(key), len(value), len(told))
        last.timestamps.append(timestamp)
        self._count += 1
        return self._count - 1

    def append_run(self, run: OutgoingRun, first: int, timestamp: int) -> int:
        """Add records of a run from ``first`` on, of a time in Unix ms; returns how many: as many as ``append`` would.

        If those are not all, the batch is closed.
        """
        told = _headers(run.headers) if run.headers else _NO_HEADERS
        sizes = run.ends[first:] - run.starts[first:] + (_RECORD_BYTES + len(told) + run.key_size)
        reached = self._size + np.cumsum(sizes)
        fitting = 0 if self._is_closed else int(np.searchsorted(reached, self._batch_size, "right"))
        if not self._is_closed and not self._count:
            fitting = max(fitting, 1)
        if fitting < len(sizes):
            self._is_closed = True
        if fitting:
            self._size = int(reached[fitting - 1])
            self._pieces.append(_Part(run, first, first + fitting, told, timestamp))
            self._count += fitting
        return fitting

    def close(self) -> None:
        """Take no more."""
        self._is_closed = True

    def closed(self) -> bool:
        """True if it takes no more."""
        return self._is_closed

    def size(self) -> int:
        """Bytes, at most."""
        return self._size

    def record_count(self) -> int:
        """How many records it holds."""
        return self._count

    def _build(self) -> memoryview:
        # aiokafka's name: asked for when the batch is sent, and each time it is sent again.
        if self._built is None:
            self._is_closed = True
            self._built = _written(self._pieces, self._count, self._size)
            self._pieces = []
        return self._built


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> bool:
    """Compile, or load what was compiled; False if this processor has no CRC of its own."""
    if not _has_crc_instruction():
        return False
    run = OutgoingRun("", b"", 0, np.zeros(0, np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int64), (), 0)
    single = _Singles()
    single.parts, single.lengths, single.timestamps = [b"", b"", _NO_HEADERS], [-1, 0, 1], [0]
    _written([single, _Part(run, 0, 1, _NO_HEADERS, 0)], 2, 128)
    _warm.set()
    return True


def _has_crc_instruction() -> bool:
    # LLVM ends the process if it is to compile what it has no instruction for: nobody may have named another processor.
    settings: Any = numba.config
    is_host = settings.CPU_NAME is None and settings.CPU_FEATURES is None
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_host and is_x86 and bool(llvmlite.binding.get_host_cpu_features().get("sse4.2"))


def _written(pieces: Sequence["_Singles | _Part"], count: int, size: int) -> memoryview:
    words = np.empty((_BEFORE + size + 7) // 8, np.uint64)
    out = words.view(np.uint8)
    first = pieces[0].timestamps[0]
    end, number = _BEFORE + _HEADER.size, 0
    for piece in pieces:
        end = piece.put(out, end, number, first)
        number += len(piece)
    batch = out.data[_BEFORE:end]
    last = max(max(piece.timestamps) for piece in pieces)
    _HEADER.pack_into(
        batch, 0, 0, len(batch) - _LENGTH_FROM, -1, _VERSION, 0, 0, count - 1, first, last, _NO_PRODUCER, -1, 0, count
    )
    struct.pack_into(">I", batch, _CRC_AT, _crc(words, out, _BEFORE + _CRC_FROM, end))
    return batch


class _Singles:
    """Records that came one by one: key, value and headers of each, one after another; -1 is the length of no key."""

    __slots__ = ("lengths", "parts", "timestamps")

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.lengths: list[int] = []
        self.timestamps: list[int] = []

    def __len__(self) -> int:
        return len(self.timestamps)

    def put(self, out: Array, o: int, number: int, first_timestamp: int) -> int:
        """Write them from ``o`` on, the first as ``number``; returns where they end."""
        parts = np.frombuffer(b"".join(self.parts), np.uint8)
        deltas = np.array(self.timestamps, np.int64) - first_timestamp
        return int(_put_singles(out, o, number, parts, np.array(self.lengths, np.int64), deltas))


class _Part:
    """Records of a run, all of one time."""

    __slots__ = ("first", "headers", "last", "run", "timestamps")

    def __init__(self, run: OutgoingRun, first: int, last: int, headers: bytes, timestamp: int) -> None:
        self.run, self.first, self.last, self.headers = run, first, last, headers
        self.timestamps = (timestamp,)

    def __len__(self) -> int:
        return self.last - self.first

    def put(self, out: Array, o: int, number: int, first_timestamp: int) -> int:
        """As ``_Singles.put``."""
        run, keys, headers = self.run, np.frombuffer(self.run.keys, np.uint8), np.frombuffer(self.headers, np.uint8)
        values = run.values, run.starts, run.ends
        delta = self.timestamps[0] - first_timestamp
        return int(_put_run(out, o, number, *values, self.first, self.last, keys, run.key_size, headers, delta))


@lru_cache(maxsize=1024)
def _headers(headers: tuple[tuple[str, bytes | None], ...]) -> bytes:
    """How many, and each with the lengths of its name and value."""
    out = bytearray(_varint(len(headers)))
    for name, value in headers:
        encoded = name.encode()
        out += _varint(len(encoded)) + encoded
        out += _varint(-1) if value is None else _varint(len(value)) + value
    return bytes(out)


def _varint(value: int) -> bytes:
    rest = value * 2 if value >= 0 else -value * 2 - 1
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


@uncounted
def _put_singles(out, o, number, parts, lengths, deltas):
    """Write records from ``o`` on; returns where they end."""
    at = 0
    for n in range(len(deltas)):
        key, value, headers = lengths[3 * n], lengths[3 * n + 1], lengths[3 * n + 2]
        o = _put_head(out, o, number + n, deltas[n], key, value, headers)
        if key > 0:
            o = copied(out, o, parts, at, at + key)
            at += key
        o = _put_varint(out, o, value)
        # The headers stand just behind the value, here as there.
        o = copied(out, o, parts, at, at + value + headers)
        at += value + headers
    return o


@uncounted
def _put_run(out, o, number, values, starts, ends, first, last, keys, key, headers, delta):
    """The same for records ``first`` to ``last`` of a run."""
    for n in range(first, last):
        value = ends[n] - starts[n]
        o = _put_head(out, o, number + n - first, delta, key, value, len(headers))
        o = copied(out, o, keys, n * key, (n + 1) * key)
        o = copied(out, _put_varint(out, o, value), values, starts[n], ends[n])
        o = copied(out, o, headers, 0, len(headers))
    return o


@uncounted
def _put_head(out, o, number, delta, key, value, headers):
    """Write what stands before the key."""
    size = 1 + _varint_size(delta) + _varint_size(number) + _varint_size(key) + _varint_size(value) + value + headers
    if key > 0:
        size += key
    o = _put_varint(out, o, size)
    out[np.uint64(o)] = 0
    o = _put_varint(out, o + 1, delta)
    return _put_varint(out, _put_varint(out, o, number), key)


@uncounted
def _put_varint(out, o, value):
    rest = np.uint64((value << 1) ^ (value >> 63))
    while rest > 127:
        out[np.uint64(o)] = np.uint8(rest & np.uint64(127) | np.uint64(128))
        rest >>= np.uint64(7)
        o += 1
    out[np.uint64(o)] = np.uint8(rest)
    return o + 1


@uncounted
def _varint_size(value):
    rest = np.uint64((value << 1) ^ (value >> 63))
    size = 1
    while rest > 127:
        rest >>= np.uint64(7)
        size += 1
    return size


def _instruction(name: str, of_crc: Any, of_more: Any) -> Any:
    """What goes on with a CRC by one instruction, which LLVM knows by ``name``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        crc, more = ir.IntType(of_crc.bitwidth), ir.IntType(of_more.bitwidth)
        return builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(crc, [crc, more])), arguments)

    def instruction(typing: Any, crc: Any, more: Any) -> Any:
        return of_crc(of_crc, of_more), generate

    return intrinsic(instruction)


_crc_of_word = _instruction("llvm.x86.sse42.crc32.64.64", types.uint64, types.uint64)
_crc_of_byte = _instruction("llvm.x86.sse42.crc32.32.8", types.uint32, types.uint8)


@uncounted
def _crc(words, octets, start, end):
    """CRC-32C (Castagnoli) of the bytes from ``start`` to ``end`` of both; ``start`` is a whole word's."""
    crc = np.uint64(0xFFFFFFFF)
    for n in range(start >> 3, end >> 3):
        crc = _crc_of_word(crc, words[np.uint64(n)])
    rest = np.uint32(crc)
    for n in range(end & ~7, end):
        rest = _crc_of_byte(rest, octets[np.uint64(n)])
    return rest ^ np.uint32(0xFFFFFFFF)
