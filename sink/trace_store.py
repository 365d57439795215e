"""Traces in PostgreSQL: new ones by COPY straight into their tables, known ones merged and replaced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from sink.batches import Batch
from sink.contributions import Sums
from sink.merge import KnownTrace, folded, spans_from_bytes
from sink.postgres import array_of, copy_rows
from sink.prerequisites import Prerequisites
from sink.rows import SPAN_COLUMNS, TRACE_COLUMNS, ErrorSpan, PoisonSpan, RowEncoder, TraceRows
from tracecore.closed_trace import ServiceLink
from tracecore.otlp import resource_of
from tracecore.redaction import Redaction
from tracecore.span import Scope, StatusCode


@dataclass(slots=True)
class StoredTraces:
    """What became of the traces of a batch; ``poison`` with the trace it was taken from."""

    new: int = 0
    amended: int = 0
    unchanged: int = 0
    spans: int = 0
    poison: list[TraceRows] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Known:
    """What PostgreSQL has of a trace, and what that added to sums."""

    trace: KnownTrace
    start_ns: int
    count_milli: int
    links: list[ServiceLink]
    errors: list[ErrorSpan]
    spans_from: datetime
    spans_until: datetime


class TraceStore:
    """Writes traces within the caller's transaction."""

    def __init__(self, prerequisites: Prerequisites, redaction: Redaction) -> None:
        self._prerequisites = prerequisites
        self._encoder = RowEncoder(redaction)

    def store(
        self, connection: psycopg.Connection, batch: Batch, trace_ids: Sequence[bytes], sums: Sums
    ) -> StoredTraces:
        """Store these traces of a batch, and add to ``sums`` by how much they change them."""
        done = StoredTraces()
        digests = _digests(connection, trace_ids)
        written: list[TraceRows] = []
        differing: list[bytes] = []
        # Of most traces nothing is known, and their rows are there: all of them are found at once.
        ready, made = batch.packed, batch.packed_rows
        packed = [ready[trace_id] for trace_id in trace_ids if trace_id in ready and trace_id not in digests]
        for trace_id in [each for each in trace_ids if each not in ready or each in digests]:
            number = ready.get(trace_id)
            if number is not None and made is not None:
                if made.digests[number] == digests[trace_id]:
                    done.unchanged += 1
                    continue
                self.unpack(batch, trace_id)
            revisions = batch.revisions[trace_id]
            if trace_id not in digests:
                done.new += 1
                rows = self._rows(connection, batch, trace_id, None)
                assert rows is not None, "any revision changes a trace that is not known"
                written.append(rows)
            elif len(revisions) == 1 and revisions[0].is_whole and revisions[0].digest == digests[trace_id]:
                done.unchanged += 1
            else:
                differing.append(trace_id)
        done.new += len(packed)
        for trace_id in differing:
            known = _known_trace(connection, trace_id)
            rows = self._rows(connection, batch, trace_id, known.trace)
            if rows is None:
                done.unchanged += 1
                continue
            done.amended += 1
            written.append(rows)
            sums.count_links(known.links, known.start_ns, known.count_milli, -1)
            sums.count_errors(known.errors, trace_id, -1)
            _delete_trace(connection, trace_id, known)
        done.poison = [rows for rows in written if rows.poison]
        written = [rows for rows in written if rows.span_rows]
        for rows in written:
            sums.count_links(rows.trace.links, rows.start_ns, rows.trace.count_milli)
            sums.count_errors(rows.errors, rows.trace.trace_id)
        trace_rows: list[bytes | memoryview] = [rows.trace_row for rows in written]
        span_rows: list[bytes | memoryview] = [row for rows in written for row in rows.span_rows]
        done.spans = len(span_rows)
        if packed and made is not None:
            done.spans += made.span_count(packed)
            sums.add_edges(made.edges(packed))
            for trace_id, errors in made.errors(packed):
                sums.count_errors(errors, trace_id)
            trace_rows += made.trace_rows(packed)
            span_rows += made.span_rows(packed)
        copy_rows(connection, "traces", TRACE_COLUMNS, trace_rows)
        copy_rows(connection, "service_traces", SPAN_COLUMNS, span_rows)
        return done

    def unpack(self, batch: Batch, trace_id: bytes) -> None:
        """Have a trace whose rows are packed read, if it is one."""
        batch.unpack(trace_id, self._encoder)

    def _rows(
        self, connection: psycopg.Connection, batch: Batch, trace_id: bytes, known: KnownTrace | None
    ) -> TraceRows | None:
        """The rows of a trace after its revisions in this batch; None if they change nothing."""
        revisions = batch.revisions[trace_id]
        rows = batch.rows.get(trace_id)
        if known is not None or rows is None:
            revision = folded(known, revisions)
            if revision is None:
                return None
            if rows is None or revision is not revisions[0]:
                rows = self._encoder.rows_of(revision.trace, revision.digest)
                self._prerequisites.ensure(connection, rows)
        refused = batch.refused.get(trace_id)
        return without(rows, refused) if refused else rows


def without(rows: TraceRows, refused: Mapping[bytes, str]) -> TraceRows:
    """The same rows, with the spans that PostgreSQL refused, by id with the reason, among the poison."""
    kept = [index for index, span in enumerate(rows.spans) if span.span_id not in refused]
    poison = [PoisonSpan(span, refused[span.span_id]) for span in rows.spans if span.span_id in refused]
    return TraceRows(
        trace=rows.trace,
        trace_row=rows.trace_row,
        spans=[rows.spans[index] for index in kept],
        span_rows=[rows.span_rows[index] for index in kept],
        errors=[error for error in rows.errors if error.span_id not in refused],
        poison=[*rows.poison, *poison],
        days=rows.days,
        start_ns=rows.start_ns,
        resource_ids=rows.resource_ids,
        scope_ids=rows.scope_ids,
    )


def _digests(connection: psycopg.Connection, trace_ids: Sequence[bytes]) -> dict[bytes, bytes]:
    cursor = connection.cursor(binary=True)
    cursor.execute("SELECT trace_id, digest FROM traces WHERE trace_id = ANY(%b)", (array_of("bytea", trace_ids),))
    return {trace_id: digest for trace_id, digest in cursor}


def _known_trace(connection: psycopg.Connection, trace_id: bytes) -> _Known:
    cursor = connection.cursor(binary=True)
    summary = cursor.execute(
        "SELECT start_ns, count_milli, links, error_origin, spans_from, spans_until, revision, first_arrival_ns,"
        " last_arrival_ns, duplicate_count, sampled_by FROM traces WHERE trace_id = %s",
        (trace_id,),
    ).fetchone()
    assert summary is not None, "its digest was read in this transaction"
    start_ns, count_milli, links, origin, spans_from, spans_until, *rest = summary
    spans = cursor.execute(
        "SELECT s.raw, r.raw, r.schema_url, c.raw, c.schema_url, s.span_id, s.status, s.service, s.operation,"
        " s.error_type, s.status_message, s.start_ns"
        " FROM service_traces s JOIN resources r USING (resource_id) JOIN scopes c USING (scope_id)"
        " WHERE s.trace_id = %s AND s.start_time BETWEEN %s AND %s",
        (trace_id, spans_from, spans_until),
    ).fetchall()
    errors = [
        ErrorSpan(span_id, service, operation, error_type or "", message or "", span_start_ns, span_id == origin)
        for *_, span_id, status, service, operation, error_type, message, span_start_ns in spans
        if status == StatusCode.ERROR
    ]
    by_identity = spans_from_bytes((row[0], resource_of(row[1], row[2]), Scope(row[3], row[4])) for row in spans)
    return _Known(
        KnownTrace(by_identity, *rest),
        start_ns,
        count_milli,
        [ServiceLink(*link) for link in links],
        errors,
        spans_from,
        spans_until,
    )


def _delete_trace(connection: psycopg.Connection, trace_id: bytes, known: _Known) -> None:
    connection.execute(
        "DELETE FROM service_traces WHERE trace_id = %s AND start_time BETWEEN %s AND %s",
        (trace_id, known.spans_from, known.spans_until),
    )
    connection.execute("DELETE FROM traces WHERE trace_id = %s", (trace_id,))
