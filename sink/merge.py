"""What becomes of a trace when more is told of it: the union of its spans, never fewer.

The law: a revision that holds every span that is known is taken as it is; one that brings nothing new changes nothing;
one that brings only some of the spans (a worker that restarted knows no others) is united with what is known, and the
trace is analysed again. Revisions are taken in the order of their partition, so the same topic gives the same rows,
however it is cut into batches and however often it is read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.otlp import decode_spans, encode_spans
from tracecore.span import Resource, Scope, Span, identity, truer

#: Digest of a trace that was analysed again: no revision has it.
RECOMPUTED = b""


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a trace as it came, its parts joined. ``is_whole``: every part is there."""

    trace: ClosedTrace
    digest: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True)
class KnownTrace:
    """What is stored of a trace, as far as a merge needs it; ``spans`` by their identity."""

    spans: dict[bytes, Span]
    revision: int
    first_arrival_ns: int
    last_arrival_ns: int
    duplicate_count: int
    sampled_by: str


def folded(known: KnownTrace | None, revisions: Sequence[Revision]) -> Revision | None:
    """What to store after ``revisions``, in their order; None if nothing changes."""
    result: Revision | None = None
    for revision in revisions:
        if known is None and revision.is_whole:
            merged: Revision | None = revision
        else:
            merged = _merged(known, revision)
        if merged is not None:
            result = merged
            if revision is not revisions[-1]:
                known = known_trace(merged.trace)
    return result


def known_trace(trace: ClosedTrace) -> KnownTrace:
    """A closed trace as what is known."""
    return KnownTrace(
        _spans_of(trace),
        trace.revision,
        trace.first_arrival_ns,
        trace.last_arrival_ns,
        trace.duplicate_count,
        trace.sampled_by,
    )


def spans_from_bytes(raws: Iterable[tuple[bytes, Resource, Scope]]) -> dict[bytes, Span]:
    """Spans by their identity, from OTLP bytes with their resource and scope; of two alike, the truer."""
    # Only these three fields are encoded: the others are read back from the bytes.
    unread = [Span(b"", b"", b"", "", 0, 0, 0, 0, 0, resource, scope, raw) for raw, resource, scope in raws]
    spans: dict[bytes, Span] = {}
    for span in decode_spans(encode_spans(unread))[0]:
        key = identity(span)
        other = spans.get(key)
        spans[key] = span if other is None else truer(other, span)
    return spans


def _merged(known: KnownTrace | None, revision: Revision) -> Revision | None:
    trace = revision.trace
    incoming = _spans_of(trace)
    if known is None:
        known = KnownTrace({}, 0, trace.first_arrival_ns, trace.last_arrival_ns, 0, "")
    union = dict(known.spans)
    for key, span in incoming.items():
        other = union.get(key)
        union[key] = span if other is None else truer(other, span)
    if revision.is_whole and union == incoming:
        return revision
    if union == known.spans:
        return None
    recomputed = closed_trace(
        trace.trace_id,
        list(union.values()),
        revision=max(known.revision, trace.revision),
        reason=trace.reason,
        first_arrival_ns=min(known.first_arrival_ns, trace.first_arrival_ns),
        last_arrival_ns=max(known.last_arrival_ns, trace.last_arrival_ns),
        duplicate_count=max(known.duplicate_count, trace.duplicate_count),
        replay_id=trace.replay_id,
    )
    sampled_by = trace.sampled_by or known.sampled_by
    return Revision(replace(recomputed, sampled_by=sampled_by), RECOMPUTED, True)


def _spans_of(trace: ClosedTrace) -> dict[bytes, Span]:
    return spans_from_bytes(
        (span.raw, trace.resources[span.resource], trace.scopes[span.scope]) for span in trace.spans
    )
