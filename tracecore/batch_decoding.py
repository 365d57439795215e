"""OTLP requests decoded by compiled code where they are as exporters write them; ``otlp.decode_spans`` does the rest.

The walk over the bytes is ``otlp_scan``'s. Here Python's objects are made of what it found, a column at a time.
"""

from collections.abc import Iterable
from itertools import chain, repeat

import numpy as np
from google.protobuf.message import DecodeError

from tracecore import otlp
from tracecore.otlp import RejectedSpan, count_milli, interned_name, new_span, resource_of, scope_of, status_code
from tracecore.span import ONE_SPAN_MILLI, Span

try:
    from tracecore import otlp_scan
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    otlp_scan = None  # type: ignore[assignment]

#: A smaller request costs as much to hand over to compiled code as to decode.
MIN_BYTES = 1000


def decode_spans(request: bytes) -> tuple[list[Span], list[RejectedSpan]]:
    """``otlp.decode_spans``, several times as fast. Raises what that raises."""
    if otlp_scan is not None and otlp_scan.is_warm() and len(request) >= MIN_BYTES:
        spans = plain_spans(request)
        if spans is not None:
            return spans, []
    return otlp.decode_spans(request)


def plain_spans(request: bytes) -> list[Span] | None:
    """All spans, by compiled code; None if the request, or a text in it, is for the reference to judge."""
    if otlp_scan is None:
        return None
    found = otlp_scan.scanned(request)
    if found is None:
        return None
    try:
        scopes = [
            (
                resource_of(request[scope[0] : scope[1]], request[scope[2] : scope[3]].decode()),
                scope_of(request[scope[4] : scope[5]], request[scope[6] : scope[7]].decode()),
                scope[otlp_scan.SPANS],
            )
            for scope in found.scopes.tolist()
        ]
        raw_at, raw_end, name, kinds, starts, ends, statuses = found.spans[: otlp_scan.STATUS + 1].tolist()
        if otlp_scan.OTHER_STATUS in statuses:
            _read_statuses(request, found, statuses)
        counts = _counts(request, found)
    except (UnicodeDecodeError, DecodeError):
        return None
    names = [interned_name(request[at:end]) for at, end in found.names.tolist()]
    # A row of bytes is an opaque value to numpy, which gives it as bytes.
    trace_ids, span_ids = found.trace_ids.view("V16").ravel().tolist(), found.span_ids.view("V8").ravel().tolist()
    parents = found.parent_ids.view("V8").ravel().tolist()
    for root in np.nonzero(found.parent_ids.view(np.uint64).ravel() == 0)[0].tolist():
        parents[root] = b""
    resources = chain.from_iterable(repeat(resource, count) for resource, _, count in scopes)
    own_scopes = chain.from_iterable(repeat(scope, count) for _, scope, count in scopes)
    raws = [request[at:end] for at, end in zip(raw_at, raw_end, strict=True)]
    return list(
        map(
            new_span,
            zip(
                trace_ids, span_ids, parents, map(names.__getitem__, name), kinds, starts, ends, statuses, counts,
                resources, own_scopes, raws, strict=False,
            ),
        )
    )  # fmt: skip


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with."""
    if otlp_scan is None:
        return False
    otlp_scan.warm_up()
    return True


def _read_statuses(request: bytes, found: "otlp_scan.Scanned", statuses: list[int]) -> None:
    """Put the codes in that stand beside other things."""
    others = np.nonzero(found.spans[otlp_scan.STATUS] == otlp_scan.OTHER_STATUS)[0]
    places = found.spans[otlp_scan.STATUS_AT : otlp_scan.STATUS_END + 1, others].T.tolist()
    for span, (at, end) in zip(others.tolist(), places, strict=True):
        statuses[span] = status_code(request[at:end])


def _counts(request: bytes, found: "otlp_scan.Scanned") -> Iterable[int]:
    """What each span stands for, in thousandths, by its tracestate."""
    if not found.spans[otlp_scan.STATE_END].any():
        return repeat(ONE_SPAN_MILLI)
    places = found.spans[otlp_scan.STATE_AT : otlp_scan.STATE_END + 1].T
    return [count_milli(request[at:end].decode()) if at < end else ONE_SPAN_MILLI for at, end in places.tolist()]
