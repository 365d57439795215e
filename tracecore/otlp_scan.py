"""The bytes of ExportTraceServiceRequests to columns of spans, compiled; ``otlp.decode_spans`` is what is meant.

One walk over the bytes finds where everything stands and reads what is a number. It judges nothing: whatever is not
exactly as OTLP's exporters write it (another wire type, a field twice, an id of another length, a number that is out
of range, bytes that end too soon) makes it give up the whole request, which is the reference's then. Compiling is
numba's, as in ``forest``.
"""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tracecore.byte_runs import eight_bytes
from tracecore.compiling import uncounted
from tracecore.span import ONE_SPAN_MILLI
from tracecore.span_columns import (
    COUNT_MILLI,
    END_NS,
    KIND,
    NAME,
    ORIGIN,
    PARENT_ID,
    RAW_AT,
    RAW_END,
    ROWS,
    SPAN_ID,
    START_NS,
    STATUS,
    TRACE_HIGH,
    TRACE_LOW,
)

#: Rows of the table of spans, beyond those of ``span_columns``: where a status and a tracestate stand. A text is
#: empty if it ends where it begins. ``ORIGIN`` is the number of a scope.
STATUS_AT, STATUS_END, STATE_AT, STATE_END = range(ROWS, ROWS + 4)
_SPAN_ROWS = ROWS + 4
#: Columns of the table of scopes.
RESOURCE_AT, RESOURCE_END, RESOURCE_URL_AT, RESOURCE_URL_END, SCOPE_AT, SCOPE_END, SCOPE_URL_AT, SCOPE_URL_END = range(
    8
)
#: And, while scanning, which of the distinct ones it is.
_NUMBER = 8
_SCOPE_COLUMNS = 9

#: A status that is not one of the three codes alone: the reference reads it.
OTHER_STATUS = -1

#: Ids and their tags: no span that can be assembled takes fewer bytes.
_SMALLEST_SPAN = 30
#: Scopes of a request, at most.
_MOST_SCOPES = 4096
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: Spans for which a thread keeps its room.
_KEPT_ROOM = 1 << 16

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Scanned(NamedTuple):
    """The spans of some requests, in their order.

    Those of request ``r`` are ``first[r]`` to ``first[r + 1]``: none, if it is not ``plain``. All places are in
    ``joined``, the requests one after the other. ``spans`` has a column a span, ``scopes`` a row a scope, with what is
    named above; ``names`` has where each name begins and ends. Of either all are distinct, by their bytes.
    ``spans[NAME]`` and ``spans[ORIGIN]`` say which of them a span has. ``has_other_status`` if any span has,
    ``has_state`` if any has a tracestate.
    """

    joined: bytes
    first: Array
    plain: Array
    spans: Array
    scopes: Array
    names: Array
    has_other_status: bool
    has_state: bool


class _Desk(threading.local):
    """Where a thread scans: to ask for memory takes as long as to scan a small request."""

    def __init__(self) -> None:
        self.most = 0

    def fit(self, most: int) -> None:
        """Make room for so many spans."""
        if most <= self.most:
            return
        self.most = most = 1 << most.bit_length()
        self.spans = np.empty((_SPAN_ROWS, most + 1), np.int64)
        self.names, self.scopes = np.empty((most, 2), np.int64), np.empty((_MOST_SCOPES, _SCOPE_COLUMNS), np.int64)
        self.slots = np.empty(slots_for(most), np.int32)
        self.scope_slots = np.empty(slots_for(_MOST_SCOPES), np.int32)


_desk = _Desk()


def scanned(requests: Sequence[bytes]) -> Scanned:
    """What is plain enough. The arrays are the thread's, until it scans again. O(n) in bytes."""
    joined = b"".join(requests)
    most = len(joined) // _SMALLEST_SPAN + 1
    desk = _desk if most <= _KEPT_ROOM else _Desk()
    desk.fit(most)
    slots = desk.slots[: slots_for(most)]
    slots.fill(-1)
    bounds = np.zeros(len(requests) + 1, np.int64)
    np.cumsum([len(request) for request in requests], out=bounds[1:])
    first, plain = np.zeros(len(requests) + 1, np.int64), np.zeros(len(requests), np.bool_)
    scope_count, name_count, has_other_status, has_state = _scan(
        np.frombuffer(joined, np.uint8), bounds, first, plain, desk.spans, desk.scopes, desk.names, slots,
        desk.scope_slots,
    )  # fmt: skip
    found = int(first[-1])
    return Scanned(
        joined,
        first,
        plain,
        desk.spans[:, :found],
        desk.scopes[:scope_count, :_NUMBER],
        desk.names[:name_count],
        has_other_status,
        has_state,
    )


def slots_for(entries: int) -> int:
    """How many slots a look-up of so many entries has: a power of two, at most half of them taken."""
    return 1 << max(4, (2 * entries - 1).bit_length())


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    scanned([b""])
    _warm.set()


@uncounted
def _scan(b, bounds, first, plain, spans, scopes, names, slots, scope_slots):
    """How many scopes and names there are, and two flags."""
    scope_count = name_count = 0
    for r in range(len(plain)):
        found, known_scopes, name_count = _scan_request(
            b, bounds[r], bounds[r + 1], first[r], scope_count, name_count, spans,
            scopes, names, slots,
        )  # fmt: skip
        plain[r] = found >= 0
        first[r + 1] = first[r]
        if found >= 0:
            first[r + 1], scope_count = found, known_scopes
    # A process sends the same resource with every request: told apart here, each is made an object of once.
    distinct = _distinct_scopes(b, scopes, scope_count, scope_slots)
    has_other_status = has_state = False
    for i in range(first[len(plain)]):
        spans[ORIGIN, i] = scopes[spans[ORIGIN, i], _NUMBER]
        has_other_status = has_other_status or spans[STATUS, i] == OTHER_STATUS
        has_state = has_state or spans[STATE_END, i] > 0
    return distinct, name_count, has_other_status, has_state


@uncounted
def _scan_request(b, at, end, found, scope_count, name_count, spans, scopes, names, slots):
    """How many spans, scopes and names there are with those of this request; -1 for the first if it is the reference's.

    Names of such a request remain, for the look-up knows them.
    """
    while at < end:
        field, wire, at = _tag(b, at, end)
        if at < 0 or field != 1 or wire != _BYTES:
            return -1, 0, name_count
        at, resource_end = _sized(b, at, end)
        if at < 0:
            return -1, 0, name_count
        first_scope = scope_count
        resource_at = resource_until = url_at = url_until = -1
        while at < resource_end:
            field, wire, at = _tag(b, at, resource_end)
            if at < 0 or wire != _BYTES:
                return -1, 0, name_count
            at, value_end = _sized(b, at, resource_end)
            if at < 0:
                return -1, 0, name_count
            if field == 1 and resource_at < 0:
                resource_at, resource_until = at, value_end
            elif field == 3 and url_at < 0:
                url_at, url_until = at, value_end
            elif field == 2 and scope_count < len(scopes):
                found, name_count = _scan_scope(
                    b, at, value_end, found, name_count, spans,
                    scopes, scope_count, names, slots,
                )  # fmt: skip
                if found < 0:
                    return -1, 0, name_count
                scope_count += 1
            else:
                return -1, 0, name_count
            at = value_end
        if scope_count == first_scope and url_at < url_until:
            return -1, 0, name_count  # nobody would see whether this is a text
        for scope in range(first_scope, scope_count):
            scopes[scope, RESOURCE_AT], scopes[scope, RESOURCE_END] = max(resource_at, 0), max(resource_until, 0)
            scopes[scope, RESOURCE_URL_AT], scopes[scope, RESOURCE_URL_END] = max(url_at, 0), max(url_until, 0)
    return found, scope_count, name_count


@uncounted
def _scan_scope(b, at, end, found, name_count, spans, scopes, scope, names, slots):
    """How many spans and names there are with those of this scope; -1 for the first if it is the reference's."""
    scope_at = scope_until = url_at = url_until = -1
    while at < end:
        field, wire, at = _tag(b, at, end)
        if at < 0 or wire != _BYTES:
            return -1, name_count
        at, value_end = _sized(b, at, end)
        if at < 0:
            return -1, name_count
        if field == 2:
            if name_count >= len(names):
                return -1, name_count
            if not _scan_span(b, at, value_end, found, spans):
                return -1, name_count
            name_count = _numbered(b, found, spans, names, name_count, slots)
            spans[ORIGIN, found] = scope
            found += 1
        elif field == 1 and scope_at < 0:
            scope_at, scope_until = at, value_end
        elif field == 3 and url_at < 0:
            url_at, url_until = at, value_end
        else:
            return -1, name_count
        at = value_end
    scopes[scope, SCOPE_AT], scopes[scope, SCOPE_END] = max(scope_at, 0), max(scope_until, 0)
    scopes[scope, SCOPE_URL_AT], scopes[scope, SCOPE_URL_END] = max(url_at, 0), max(url_until, 0)
    return found, name_count


@uncounted
def _scan_span(b, at, end, i, spans):
    """Fill a span's column; ``NAME`` gets where its name stands. False if it is odd."""
    # Local until the span is known to be whole: a column's rows lie far apart, and are written once.
    kind = start_ns = end_ns = status = status_at = status_end = state_at = state_end = np.int64(0)
    name_at = name_end = trace_high = trace_low = span_id = parent_id = np.int64(0)
    seen = 0
    raw_at = at
    while at < end:
        field, wire, at = _tag(b, at, end)
        if at < 0 or not 0 < field < 17:
            return False
        # What may come many times: attributes, events, links. Most fields are attributes.
        if field == 9 or field == 11 or field == 13:
            if wire != _BYTES:
                return False
            _, at = _sized(b, at, end)
            if at < 0:
                return False
            continue
        if seen & (1 << field):
            return False
        seen |= 1 << field
        if field == 7 or field == 8:
            if wire != _FIXED64 or end - at < 8:
                return False
            value = np.int64(eight_bytes(b, at))
            if value < 0:
                return False
            if field == 7:
                start_ns = value
            else:
                end_ns = value
            at += 8
        elif field == 6 or field == 10 or field == 12 or field == 14:
            # A kind; counts of what was dropped, up to 32 bits.
            if wire != _VARINT:
                return False
            value, at = _varint(b, at, end)
            if at < 0:
                return False
            if field == 6:
                kind = value
        elif field == 16:
            if wire != _FIXED32 or end - at < 4:
                return False
            at += 4
        else:
            if wire != _BYTES:
                return False
            at, value_end = _sized(b, at, end)
            if at < 0:
                return False
            if field == 1:
                if value_end - at != 16:
                    return False
                trace_high, trace_low = _big_endian(b, at), _big_endian(b, at + 8)
                if trace_high | trace_low == 0:
                    return False
            elif field == 2:
                if value_end - at != 8:
                    return False
                span_id = _big_endian(b, at)
                if span_id == 0:
                    return False
            elif field == 4:
                if value_end - at == 8:
                    parent_id = _big_endian(b, at)
                elif value_end != at:
                    return False
            elif field == 3:
                state_at, state_end = at, value_end
            elif field == 5:
                name_at, name_end = at, value_end
            elif field == 15:
                status = _status(b, at, value_end)
                status_at, status_end = at, value_end
            at = value_end
    if seen & 6 != 6:
        return False
    spans[TRACE_HIGH, i], spans[TRACE_LOW, i] = trace_high, trace_low
    spans[SPAN_ID, i], spans[PARENT_ID, i] = span_id, parent_id
    spans[RAW_AT, i], spans[RAW_END, i], spans[COUNT_MILLI, i] = raw_at, end, ONE_SPAN_MILLI
    spans[KIND, i], spans[START_NS, i], spans[END_NS, i] = kind, start_ns, end_ns
    spans[STATUS, i], spans[STATUS_AT, i], spans[STATUS_END, i] = status, status_at, status_end
    spans[STATE_AT, i], spans[STATE_END, i] = state_at, state_end
    # A pair of places until it has a number: ``_numbered`` takes it from here.
    spans[NAME, i] = name_at << 32 | name_end
    return True


@uncounted
def _big_endian(b, at):
    """Eight bytes of an id as a number, the first of them the highest."""
    k = np.uint64(at)
    return np.int64(
        np.uint64(b[k]) << np.uint64(56)
        | np.uint64(b[k + np.uint64(1)]) << np.uint64(48)
        | np.uint64(b[k + np.uint64(2)]) << np.uint64(40)
        | np.uint64(b[k + np.uint64(3)]) << np.uint64(32)
        | np.uint64(b[k + np.uint64(4)]) << np.uint64(24)
        | np.uint64(b[k + np.uint64(5)]) << np.uint64(16)
        | np.uint64(b[k + np.uint64(6)]) << np.uint64(8)
        | np.uint64(b[k + np.uint64(7)])
    )


@uncounted
def _status(b, at, end):
    """The code of a status that says nothing else."""
    if at == end:
        return 0
    if end - at == 2 and b[at] == 0x18 and b[at + 1] < 128:
        return np.int64(b[at + 1])
    return OTHER_STATUS


@uncounted
def _numbered(b, i, spans, names, count, slots):
    """Give a span's name the number of its bytes; how many names there are then."""
    at, end = spans[NAME, i] >> 32, spans[NAME, i] & 0xFFFFFFFF
    size = end - at
    mask = len(slots) - 1
    slot = np.int64(_hash(b, at, end) >> np.uint64(32)) & mask
    while slots[slot] >= 0:
        number = slots[slot]
        known = names[number, 0]
        if names[number, 1] - known == size and _are_equal(b, known, at, size):
            spans[NAME, i] = number
            return count
        slot = (slot + 1) & mask
    slots[slot] = count
    names[count, 0], names[count, 1] = at, end
    spans[NAME, i] = count
    return count + 1


@uncounted
def _distinct_scopes(b, scopes, count, slots):
    """Move each scope that is unlike those before to the front; how many those are. ``_NUMBER`` says which each is."""
    size = len(slots)
    while size > 16 and size >= 8 * count:
        size >>= 1
    mask = size - 1
    slots[:size] = -1
    distinct = 0
    for scope in range(count):
        hashed = np.uint64(0)
        for k in range(0, _NUMBER, 2):
            hashed = hashed * np.uint64(31) + _hash(b, scopes[scope, k], scopes[scope, k + 1])
        slot = np.int64(hashed >> np.uint64(32)) & mask
        while slots[slot] >= 0 and not _is_same_scope(b, scopes, slots[slot], scope):
            slot = (slot + 1) & mask
        number = slots[slot]
        if number < 0:
            number = slots[slot] = distinct
            for k in range(_NUMBER):
                scopes[distinct, k] = scopes[scope, k]
            distinct += 1
        scopes[scope, _NUMBER] = number
    return distinct


@uncounted
def _is_same_scope(b, scopes, one, other):
    for k in range(0, _NUMBER, 2):
        at, size = scopes[one, k], scopes[one, k + 1] - scopes[one, k]
        if scopes[other, k + 1] - scopes[other, k] != size or not _are_equal(b, at, scopes[other, k], size):
            return False
    return True


@uncounted
def _hash(b, at, end):
    """Of bytes and their length, eight at a time; the last eight may be some of those before again."""
    prime = np.uint64(0x9E3779B97F4A7C15)
    hashed = np.uint64(end - at) * prime
    if end - at < 8:
        rest = np.uint64(0)
        for k in range(at, end):
            rest = rest << np.uint64(8) | np.uint64(b[np.uint64(k)])
        hashed = (hashed ^ rest) * prime
    else:
        for k in range(at, end - 8, 8):
            hashed = (hashed ^ eight_bytes(b, k)) * prime
            hashed ^= hashed >> np.uint64(32)
        hashed = (hashed ^ eight_bytes(b, end - 8)) * prime
    # The upper half, of which a slot is made, hangs on all bits; its lowest bits only after this.
    return (hashed ^ (hashed >> np.uint64(29))) * prime


@uncounted
def _are_equal(b, one, other, size):
    """True if as many bytes are the same at both places; compared as ``_hash`` reads them."""
    if size < 8:
        k = 0
        while k < size and b[np.uint64(one + k)] == b[np.uint64(other + k)]:
            k += 1
        return k == size
    for k in range(0, size - 8, 8):
        if eight_bytes(b, one + k) != eight_bytes(b, other + k):
            return False
    return eight_bytes(b, one + size - 8) == eight_bytes(b, other + size - 8)


@uncounted
def _tag(b, at, end):
    """Number and wire type of a field of number 1 to 16, and where its value begins: -1 if it is no such field."""
    byte = np.int64(b[np.uint64(at)])
    if byte < 128:
        return byte >> 3, byte & 7, at + 1
    # The flags of a span, number 16, take a second byte.
    if end - at >= 2 and b[np.uint64(at + 1)] == 1 and byte < 136:
        return 16, byte & 7, at + 2
    return 0, 0, -1


@uncounted
def _varint(b, at, end):
    """A number below 2**31, and where it ends: -1 if it is no such number."""
    if at < end and b[np.uint64(at)] < 128:
        # Most are sizes of a byte.
        return np.int64(b[np.uint64(at)]), at + 1
    value, shift = np.int64(0), 0
    while at < end and shift < 35:
        byte = np.int64(b[np.uint64(at)])
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return (value, at) if value < 1 << 31 else (0, -1)
        shift += 7
    return 0, -1


@uncounted
def _sized(b, at, end):
    """Where a value of so many bytes begins and ends; -1 if it would end beyond ``end``."""
    size, at = _varint(b, at, end)
    if at < 0 or size > end - at:
        return -1, -1
    return at, at + size
