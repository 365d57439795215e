"""Records become batches: when one is due, what goes into it, what waits for the next.

A batch is cut by rows, bytes and age. It never cuts a revision whose parts are still coming, unless they have been
awaited too long: the rest of that partition then waits with it, so that a partition's offsets stay contiguous.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sink.merge import Revision
from sink.packed import TRACE_ID, PackedBatch, Packing, is_whole, span_count_in, unmarked
from sink.redaction import masked_statement
from sink.rows import RowEncoder, TraceRows, digest_of
from tracecore.alert import Alert
from tracecore.closed_trace import ClosedTrace
from tracecore.errors import MalformedPayload
from tracecore.health import Health
from tracecore.redaction import BUILT_IN, Redaction
from tracecore.topics import Topics
from tracecore.window import Window
from tracecore.wire import decode_alert, decode_health, decode_trace, decode_window, joined

#: A revision whose parts are coming is awaited until this many batches' bytes are held.
AWAITED_BATCHES = 8

RevisionKey = tuple[bytes, int, str]


class UnreadTrace(NamedTuple):
    """A record that is to be read where rows are made of it, by compiled code."""

    trace_id: bytes
    span_count: int


_TRACES = (UnreadTrace, ClosedTrace)
#: What a record says.
Content = ClosedTrace | UnreadTrace | Window | Alert | Health


class Record(NamedTuple):
    """A Kafka record, as far as the sink knows it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Entry(NamedTuple):
    """A record and what it says; ``reason`` tells why it cannot be read, if so."""

    record: Record
    content: Content | None
    reason: str
    added_s: float


class Range(NamedTuple):
    """Offsets of a partition that a batch holds: from the first record to the one after the last."""

    first: int
    next: int


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is due. ``parts_timeout_s``: how long the missing parts of a revision are awaited."""

    rows: int
    bytes: int
    age_s: float
    parts_timeout_s: float


@dataclass(slots=True)
class Batch:
    """What one transaction stores. ``revisions`` by trace, in the order they came."""

    ranges: dict[tuple[str, int], Range] = field(default_factory=dict)
    revisions: dict[bytes, list[Revision]] = field(default_factory=dict)
    #: The records of each trace, for the dead letters, should PostgreSQL refuse the whole of it.
    records: dict[bytes, list[Record]] = field(default_factory=dict)
    #: Rows made ahead, of traces that came in one whole revision.
    rows: dict[bytes, TraceRows] = field(default_factory=dict)
    #: The same, made by compiled code: their numbers in ``packed_rows``. Such a trace has no ``revisions`` and no
    #: ``rows`` until ``unpack``.
    packed: dict[bytes, int] = field(default_factory=dict)
    packed_rows: PackedBatch | None = None
    #: Spans that PostgreSQL refused, by trace and span id, with what it said.
    refused: dict[bytes, dict[bytes, str]] = field(default_factory=dict)
    windows: list[tuple[Window, Record]] = field(default_factory=list)
    alerts: list[tuple[Alert, Record]] = field(default_factory=list)
    health: list[tuple[Health, Record]] = field(default_factory=list)
    unreadable: list[tuple[Record, str]] = field(default_factory=list)
    row_count: int = 0
    oldest_timestamp_ms: int = 0

    def unpack(self, trace_id: bytes, encoder: RowEncoder) -> None:
        """Have the reference read a packed trace: it is to be merged, or PostgreSQL refuses it."""
        if self.packed.pop(trace_id, None) is not None:
            (record,) = self.records[trace_id]
            revision = revision_of([(decode_trace(record.value), record.value)])
            self.revisions[trace_id] = [revision]
            self.rows[trace_id] = encoder.rows_of(revision.trace, revision.digest)


class Batcher:
    """Gathers records until a batch is due."""

    def __init__(self, topics: Topics, limits: BatchLimits, redaction: Redaction = BUILT_IN) -> None:
        self._topics = topics
        self._traces = topics.traces
        self._redaction = redaction
        self._limits = limits
        self._entries: dict[tuple[str, int], list[Entry]] = {}
        self._rows = 0
        self._bytes = 0
        self._oldest_s: float | None = None
        self._open: dict[RevisionKey, set[int]] = {}
        #: Whether whole traces are left unread, for ``batch_of`` to pack.
        self.leaves_traces = False

    @property
    def is_full(self) -> bool:
        """A batch's worth is here: read no more until it is taken. Parts of one revision are read on, to a limit."""
        if self._open and self._bytes < AWAITED_BATCHES * self._limits.bytes:
            return False
        return self._is_large

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return not self._entries

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    def add(self, record: Record, now_s: float) -> None:
        """Read a record and keep it for the next batch. ``now_s`` by any steady clock."""
        self.add_all((record.topic, record.partition), [record], now_s)

    def add_all(self, partition: tuple[str, int], records: Iterable[Record], now_s: float) -> None:
        """The same for records of one partition, in their order."""
        entries = self._entries.setdefault(partition, [])
        leaves_traces = self.leaves_traces and partition[0] == self._traces
        rows = size = 0
        new = tuple.__new__
        for record in records:
            value = record.value
            size += len(value)
            if leaves_traces and is_whole(value):
                # Hot, once a trace: nothing is asked that is known of such a record, and no name is looked up.
                count = span_count_in(value)
                rows += count
                entries.append(new(Entry, (record, new(UnreadTrace, (value[TRACE_ID], count)), "", now_s)))
                continue
            entry = self._read(record, now_s)
            rows += _rows_of(entry)
            _note_part(self._open, entry)
            entries.append(entry)
        self._rows += rows
        self._bytes += size
        if self._oldest_s is None and entries:
            self._oldest_s = now_s

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a batch is due, 0 if it is; None while there is nothing."""
        if self._oldest_s is None:
            return None
        return 0.0 if self._is_large and not self._open else max(0.0, self._oldest_s + self._limits.age_s - now_s)

    def take(self, now_s: float) -> list[Entry]:
        """The entries of the next batch, in each partition's order; what waits for its parts stays."""
        taken: list[Entry] = []
        kept: dict[tuple[str, int], list[Entry]] = {}
        for partition, entries in self._entries.items():
            cut = self._first_incomplete(entries, now_s)
            taken += entries[:cut]
            if cut < len(entries):
                kept[partition] = entries[cut:]
        self._keep(kept)
        if kept:
            self._oldest_s = now_s  # what waits for its parts is looked at again in a while, not at once
        return taken

    def forget(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Drop what was read of these partitions: another sink has them, or they are read again."""
        gone = set(partitions)
        self._keep({partition: entries for partition, entries in self._entries.items() if partition not in gone})

    def _keep(self, kept: dict[tuple[str, int], list[Entry]]) -> None:
        self._entries = kept
        entries = [entry for waiting in kept.values() for entry in waiting]
        self._rows = sum(map(_rows_of, entries))
        self._bytes = sum(len(entry.record.value) for entry in entries)
        self._oldest_s = min((entry.added_s for entry in entries), default=None)
        self._open = {}
        for entry in entries:
            _note_part(self._open, entry)

    @property
    def _is_large(self) -> bool:
        return self._rows >= self._limits.rows or self._bytes >= self._limits.bytes

    def _first_incomplete(self, entries: list[Entry], now_s: float) -> int:
        if not self._open:
            return len(entries)
        waiting: dict[RevisionKey, set[int]] = {}
        first: dict[RevisionKey, int] = {}
        for index, entry in enumerate(entries):
            key = _note_part(waiting, entry)
            if key is not None:
                first.setdefault(key, index)
        cut = min((first[key] for key in waiting), default=len(entries))
        # A stream that crashed between two parts sends the revision anew, whole: then the old one waits in vain.
        is_late = cut < len(entries) and now_s - entries[cut].added_s > self._limits.parts_timeout_s
        return len(entries) if is_late or self.is_full else cut

    def _read(self, record: Record, now_s: float) -> Entry:
        try:
            return Entry(record, self._content(record), "", now_s)
        except MalformedPayload as error:
            return Entry(record, None, str(error), now_s)

    def _content(self, record: Record) -> Content:
        if record.topic == self._traces:
            return decode_trace(record.value)
        if record.topic == self._topics.windows:
            return masked_statement(self._redaction, decode_window(record.value))
        if record.topic == self._topics.health:
            return masked_statement(self._redaction, decode_health(record.value))
        return masked_statement(self._redaction, decode_alert(record.value))


def batch_of(entries: list[Entry], encoder: RowEncoder, packing: Packing | None = None) -> Batch:
    """A batch of entries, with the rows of what came whole made ahead: the costly part, off the transaction.

    ``packing`` is needed for traces that the batcher left unread.
    """
    batch = Batch(ranges=_ranges(entries))
    batch.oldest_timestamp_ms = min((entry.record.timestamp_ms for entry in entries), default=0)
    if packing is not None:
        entries = _packed(batch, entries, packing)
    parts: dict[bytes, dict[RevisionKey, list[tuple[ClosedTrace, bytes]]]] = {}
    for entry in entries:
        record, content = entry.record, entry.content
        if isinstance(content, UnreadTrace):
            batch.records[content.trace_id] = [record]
        elif isinstance(content, ClosedTrace):
            revision = parts.setdefault(content.trace_id, {}).setdefault(_revision_key(content), [])
            revision.append((content, record.value))
            batch.records.setdefault(content.trace_id, []).append(record)
        elif isinstance(content, Alert):
            batch.alerts.append((content, record))
        elif isinstance(content, Health):
            batch.health.append((content, record))
        elif content is not None:
            batch.windows.append((content, record))
        else:
            batch.unreadable.append((record, entry.reason))
    for trace_id, revisions in parts.items():
        whole = [revision_of(said) for said in revisions.values()]
        batch.revisions[trace_id] = whole
        if len(whole) == 1 and whole[0].is_whole:
            rows = batch.rows[trace_id] = encoder.rows_of(whole[0].trace, whole[0].digest)
            batch.row_count += len(rows.span_rows)
        else:
            batch.row_count += sum(len(revision.trace.spans) for revision in whole)
    return batch


def _ranges(entries: list[Entry]) -> dict[tuple[str, int], Range]:
    first: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], int] = {}
    for record, _, _, _ in entries:
        partition = record[:2]
        first.setdefault(partition, record[2])
        last[partition] = record[2]
    return {partition: Range(offset, last[partition] + 1) for partition, offset in first.items()}


def _packed(batch: Batch, entries: list[Entry], packing: Packing) -> list[Entry]:
    """Pack the unread traces of which there is one record alone; the entries, what was not packed read after all."""
    said = Counter([content.trace_id for _, content, _, _ in entries if isinstance(content, _TRACES)])
    unread = [
        record.value
        for record, content, _, _ in entries
        if isinstance(content, UnreadTrace) and said[content.trace_id] == 1
    ]
    batch.packed_rows = rows = packing.pack(unread)
    numbers = rows.packed
    batch.packed = packed = {unread[number][TRACE_ID]: number for number in numbers}
    batch.row_count = rows.span_count(numbers)
    if len(packed) == len(entries):
        return entries
    return [
        entry if not isinstance(entry.content, UnreadTrace) or entry.content.trace_id in packed else _read_trace(entry)
        for entry in entries
    ]


def _read_trace(entry: Entry) -> Entry:
    try:
        return entry._replace(content=decode_trace(entry.record.value))
    except MalformedPayload as error:
        return entry._replace(content=None, reason=str(error))


def revision_of(said: list[tuple[ClosedTrace, bytes]]) -> Revision:
    """One revision of its parts, each with its record; a part that came twice counts once.

    The digest leaves out which replay said it: what a replay repeats, word for word, is nothing new.
    """
    by_part = {trace.part: (trace, value) for trace, value in said}
    ordered = [by_part[part] for part in sorted(by_part)]
    first, value = ordered[0]
    if first.parts == 1:
        return Revision(first, digest_of([unmarked(value)]), True)
    digest = digest_of([unmarked(value) for _, value in ordered])
    return Revision(joined([trace for trace, _ in ordered]), digest, len(ordered) == first.parts)


def _rows_of(entry: Entry) -> int:
    content = entry.content
    if isinstance(content, UnreadTrace):
        return content.span_count
    return len(content.spans) if isinstance(content, ClosedTrace) else 1


def _note_part(waiting: dict[RevisionKey, set[int]], entry: Entry) -> RevisionKey | None:
    """Note a part of a revision in several; one whose parts are all there waits no more."""
    trace = entry.content
    if not isinstance(trace, ClosedTrace) or trace.parts == 1:
        return None
    key = _revision_key(trace)
    seen = waiting.setdefault(key, set())
    seen.add(trace.part)
    if len(seen) >= trace.parts:
        del waiting[key]
    return key


def _revision_key(trace: ClosedTrace) -> RevisionKey:
    return trace.trace_id, trace.revision, f"{trace.replay_id}/{trace.parts}/{trace.last_arrival_ns}/{trace.span_count}"
