"""Spans as columns: a worker holds most spans only to count, judge and pass them on, and makes no object for each.

A span is made when somebody looks at it. Whoever decodes, assembles or analyses many takes the columns.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from tracecore.otlp import new_span
from tracecore.span import MAX_COUNT_MILLI, Resource, Scope, Span

#: Rows of the table of spans. Ids are big-endian integers, of a trace two of them, a parent of 0 is none. ``NAME`` and
#: ``ORIGIN`` are numbers of names and origins, a span's bytes lie from ``RAW_AT`` to ``RAW_END`` in the buffer.
TRACE_HIGH, TRACE_LOW, SPAN_ID, PARENT_ID, KIND, START_NS, END_NS, STATUS, COUNT_MILLI, NAME, ORIGIN = range(11)
RAW_AT, RAW_END = 11, 12
ROWS = 13

_NO_ID = bytes(8)

T = TypeVar("T")
Array = np.ndarray[Any, Any]


class Origin(NamedTuple):
    """Who made a span, and with which library."""

    resource: Resource
    scope: Scope


class SpanColumns(Sequence[Span]):
    """Spans of any traces. ``table`` has a column a span: integers of 64 bits, in rows as named above."""

    __slots__ = ("buffer", "names", "origins", "table")

    def __init__(self, table: Array, names: Sequence[str], origins: Sequence[Origin], buffer: bytes) -> None:
        self.table = table
        self.names = names
        self.origins = origins
        self.buffer = buffer

    def __len__(self) -> int:
        return len(self.table[0])

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> list[Span]: ...
    def __getitem__(self, index: int | slice) -> Span | list[Span]:
        if isinstance(index, slice):
            return self.made(index)
        return self.made(slice(index, index + 1 or None))[0]

    def __iter__(self) -> Iterator[Span]:
        return iter(self.made(slice(None)))

    def taken(self, places: Array) -> "SpanColumns":
        """The spans at ``places``, in that order."""
        return SpanColumns(self.table.take(places, axis=1), self.names, self.origins, self.buffer)

    def made(self, places: slice) -> list[Span]:
        """Spans, made."""
        # Few at a time, as a rule: a step of numpy's for all costs as much as one of Python's for ten.
        table = self.table[:, places]
        (
            trace_high, trace_low, span_ids, parent_ids, kinds, _, _, statuses, counts, names, origins, raw_at, raw_end,
        ) = table.tolist()  # fmt: skip
        # Times beyond the middle read as negative.
        starts, ends = table[START_NS : END_NS + 1].view(np.uint64).tolist()
        of = list(map(self.origins.__getitem__, origins))
        buffer = self.buffer
        return list(
            map(
                new_span,
                zip(
                    _ids(list(chain.from_iterable(zip(trace_high, trace_low, strict=True))), 16),
                    _ids(span_ids, 8),
                    [b"" if parent_id == _NO_ID else parent_id for parent_id in _ids(parent_ids, 8)],
                    map(self.names.__getitem__, names),
                    kinds, starts, ends, statuses, counts,
                    [origin[0] for origin in of],
                    [origin[1] for origin in of],
                    [buffer[at:end] for at, end in zip(raw_at, raw_end, strict=True)],
                    strict=True,
                ),
            )
        )  # fmt: skip


def columns_of(spans: Sequence[Span]) -> SpanColumns | None:
    """The same spans as columns; None if numbers or ids do not fit, as in spans that no decoder made."""
    if not spans:
        return SpanColumns(np.zeros((ROWS, 0), np.int64), [], [], b"")
    trace_ids, span_ids, parent_ids, names, kinds, starts, ends, statuses, counts, resources, scopes, raws = zip(
        *spans, strict=True
    )
    ids = [b"".join(trace_ids), b"".join(span_ids), b"".join([parent_id or _NO_ID for parent_id in parent_ids])]
    if [len(joined) for joined in ids] != [size * len(spans) for size in (16, 8, 8)]:
        return None
    table = np.empty((ROWS, len(spans)), np.int64)
    table[TRACE_HIGH:SPAN_ID] = np.frombuffer(ids[0], ">i8").reshape(-1, 2).T
    table[SPAN_ID], table[PARENT_ID] = np.frombuffer(ids[1], ">i8"), np.frombuffer(ids[2], ">i8")
    try:
        # An array of the standard library takes a tuple's integers in a third of the time that numpy does. Times
        # beyond the middle read as negative.
        for row, typecode, values in (
            (KIND, "q", kinds), (START_NS, "Q", starts), (END_NS, "Q", ends), (STATUS, "q", statuses),
            (COUNT_MILLI, "q", counts),
        ):  # fmt: skip
            table[row] = np.frombuffer(array(typecode, values), np.int64)
    except OverflowError:
        return None
    if table[COUNT_MILLI].min() < 0 or table[COUNT_MILLI].max() > MAX_COUNT_MILLI:
        return None
    table[NAME], numbered_names = numbered(names)
    table[ORIGIN], origins = _numbered_origins(resources, scopes)
    table[RAW_END] = np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)))
    table[RAW_AT] = np.concatenate(((0,), table[RAW_END, :-1]))
    return SpanColumns(table, numbered_names, origins, b"".join(raws))


def _ids(integers: Sequence[int], size: int) -> list[bytes]:
    """Big-endian integers of eight bytes as ids of ``size`` bytes."""
    together = struct.pack(f">{len(integers)}q", *integers)
    return [together[at : at + size] for at in range(0, len(together), size)]


def numbered(values: Sequence[T]) -> tuple[Array, list[T]]:
    """By value its number, counted in the order of appearance; and the values by number."""
    number: dict[T, int] = {value: 0 for value in values}
    distinct = list(number)
    for at, value in enumerate(distinct):
        number[value] = at
    return np.fromiter(map(number.__getitem__, values), np.int64, len(values)), distinct


def _numbered_origins(resources: Sequence[Resource], scopes: Sequence[Scope]) -> tuple[Array, list[Origin]]:
    """``numbered``; most are one of few pairs of objects, so a resource's bytes are hashed once an object."""
    pairs = list(zip(map(id, resources), map(id, scopes), strict=True))
    objects = dict(zip(pairs, map(Origin, resources, scopes), strict=True))
    by_value: dict[Origin, int] = {}
    number = {pair: by_value.setdefault(origin, len(by_value)) for pair, origin in objects.items()}
    return np.fromiter(map(number.__getitem__, pairs), np.int64, len(pairs)), list(by_value)


def renumbered(numbers: Array, source_of: Array, values: Sequence[Sequence[T]]) -> tuple[Array, list[T]]:
    """Numbers of ``values`` of several sources to numbers of those that are used; equal values have one."""
    at = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(each) for each in values], out=at[1:])
    apart = numbers + at[source_of]
    used = np.flatnonzero(np.bincount(apart))
    everything = list(chain.from_iterable(values))
    number: dict[T, int] = {}
    renumbering = np.zeros(len(everything), np.int64)
    renumbering[used] = [number.setdefault(everything[place], len(number)) for place in used.tolist()]
    return renumbering[apart], list(number)
