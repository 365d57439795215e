"""OTLP requests decoded by compiled code where they are as exporters write them; ``otlp.decode_spans`` does the rest.

The walk over the bytes is ``otlp_scan``'s. Texts are read here, and objects made only where somebody asks for them.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from google.protobuf.message import DecodeError

from tracecore import otlp
from tracecore.otlp import RejectedSpan, count_milli, interned_name, resource_of, scope_of, status_code
from tracecore.record_spans import RecordSpans
from tracecore.span import Span, StatusCode
from tracecore.span_columns import COUNT_MILLI, ROWS, STATUS, Origin, SpanColumns

try:
    from tracecore import otlp_scan
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    otlp_scan = None  # type: ignore[assignment]

_ERROR = int(StatusCode.ERROR)


def decode_spans(request: bytes) -> tuple[list[Span], list[RejectedSpan]]:
    """``otlp.decode_spans``, several times as fast. Raises what that raises."""
    (found,) = decode_together([request])
    return (found.made(), []) if found is not None else otlp.decode_spans(request)


def decode_together(requests: Sequence[bytes]) -> Sequence[RecordSpans | None]:
    """The spans of each as columns, by compiled code; None if the request is for ``otlp.decode_spans``."""
    if otlp_scan is None or not otlp_scan.is_warm() or not requests:
        return [None] * len(requests)
    return plain_spans(requests)


def plain_spans(requests: Sequence[bytes]) -> Sequence[RecordSpans | None]:
    """The spans of each by compiled code; None if the request, or a text in it, is for the reference to judge."""
    found = otlp_scan.scanned(requests)
    try:
        origins = [
            _origin(found.joined[a:b], found.joined[c:d], found.joined[e:f], found.joined[g:h])
            for a, b, c, d, e, f, g, h in found.scopes.tolist()
        ]
        _read_statuses(found)
        _read_counts(found)
    except (UnicodeDecodeError, DecodeError):
        # Each alone then, so that the others are not the reference's, too.
        return [None] if len(requests) == 1 else [spans for request in requests for spans in plain_spans([request])]
    names = [interned_name(found.joined[at:end]) for at, end in found.names.tolist()]
    # A copy: what was scanned stands where the next is scanned.
    columns = SpanColumns(found.spans[:ROWS].copy(), names, origins, found.joined)
    failed = np.searchsorted(np.flatnonzero(columns.table[STATUS] == _ERROR), found.first)
    return [
        RecordSpans(columns, low, high, has_failed) if plain else None
        for (low, high), has_failed, plain in zip(
            pairwise(found.first.tolist()), (np.diff(failed) > 0).tolist(), found.plain.tolist(), strict=True
        )
    ]


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with."""
    if otlp_scan is None:
        return False
    otlp_scan.warm_up()
    return True


@lru_cache(maxsize=4096)
def _origin(resource: bytes, resource_url: bytes, scope: bytes, scope_url: bytes) -> Origin:
    """Raises ``UnicodeDecodeError``."""
    return Origin(resource_of(resource, resource_url.decode()), scope_of(scope, scope_url.decode()))


def _read_statuses(found: "otlp_scan.Scanned") -> None:
    """Put the codes in that stand beside other things."""
    if not found.has_other_status:
        return
    statuses = found.spans[STATUS]
    others = np.flatnonzero(statuses == otlp_scan.OTHER_STATUS)
    places = found.spans[otlp_scan.STATUS_AT : otlp_scan.STATUS_END + 1, others].T.tolist()
    statuses[others] = [status_code(found.joined[at:end]) for at, end in places]


def _read_counts(found: "otlp_scan.Scanned") -> None:
    """Put in what spans stand for, in thousandths, by their tracestate."""
    if not found.has_state:
        return
    telling = np.flatnonzero(found.spans[otlp_scan.STATE_END])
    places = found.spans[otlp_scan.STATE_AT : otlp_scan.STATE_END + 1, telling].T.tolist()
    found.spans[COUNT_MILLI, telling] = [count_milli(found.joined[at:end].decode()) for at, end in places]
