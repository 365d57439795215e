"""Records of traces to rows of binary COPY, compiled; ``rows.RowEncoder`` does the same, and is what is meant.

Whatever is not exactly as our stream writes it is left to the reference: a record by ``REFUSED``, a span by the list of
odd ones. So these functions judge nothing; on bytes of any kind they give the reference's rows, or none. They read and
write arrays alone, a batch at a time, without the interpreter's lock. One file, because numba's cache of compiled code
goes by the age of one file: a function in another could change unseen.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numba import njit

from sink.binary import POSTGRES_EPOCH_US
from sink.detail import ERROR_TYPE_ATTRIBUTES, ERROR_TYPE_LENGTH, UNKNOWN_ERROR
from sink.rows import DAY_NS, EARLIEST_NS, LATEST_AFTER_ARRIVAL_NS, LONGEST_INDEXED, SPAN_COLUMNS, TRACE_COLUMNS
from tracecore.closed_trace import NO_GAP

#: What became of a record: left to the reference; done; something of it is not in the tables yet; done, and none of its
#: spans is odd or an error.
REFUSED, DONE, UNKNOWN, PLAIN = 0, 1, 2, 3
#: What a table's entry is, by its ``used`` before any use: fit; or not, since it holds a secret or does not parse.
FIT, UNFIT = -1, -2
#: What a key's id says of it: that JSON has it as it is, in quotes.
AS_IT_IS = 1
#: What is in the list of the unknown: a key of an attribute, a scope, a resource.
KEY, SCOPE, RESOURCE = 1, 2, 4
#: Columns of the table of records.
COLUMNS = 15
STATUS, SPANS_START, SPANS_END, TRACE_START, TRACE_END, SPAN_COUNT, START_NS, COUNT_MILLI, LINKS_AT = range(9)
FIRST_DAY, LAST_DAY, ODD_START, ODD_END, ERROR_START, ERROR_END = range(9, COLUMNS)
#: Columns of the list of odd spans: where the span stands in the records; where its row belongs.
ODD_COLUMNS = 3
ODD_AT, ODD_UNTIL, ODD_ROW_AT = range(ODD_COLUMNS)
#: Columns of the list of error spans: where id, service, name and message stand in the records; where the error type
#: stands among the rows; the start; whether the trace's errors come from it.
ERROR_COLUMNS = 11
ERROR_AT, SERVICE_AT, SERVICE_UNTIL, NAME_AT, NAME_UNTIL, MESSAGE_AT, MESSAGE_UNTIL = range(7)
TYPE_AT, TYPE_UNTIL, ERROR_START_NS, IS_ORIGIN = range(7, ERROR_COLUMNS)
#: Columns of the table of calls: where caller, callee and type stand; the minute; then seven sums.
EDGE_AT, EDGE_UNTIL, EDGE_MINUTE_NS, EDGE_CALLS = range(4)
EDGE_COLUMNS = EDGE_CALLS + 7

#: Bytes of a row beside texts, attributes and raw bytes: more than there ever are, with the type of an error.
ROW_BYTES = 320 + ERROR_TYPE_LENGTH
#: How much longer JSON is than what it is made of, at most: \u0001 of one byte.
JSON_GROWTH = 6
#: Behind all that is read: eight bytes are read at a time, those after a text's end, too.
PADDING = bytes(8)
#: A larger trace is the reference's; the marks of seen span ids are for twice as many.
MOST_SPANS = 4096

#: Numbers that tell how far the records are done, and behind these the keys that are expected.
STATE, GUESSES = 6, 32

_SEEN = 2 * MOST_SPANS
_MINUTE_NS = 60_000_000_000
#: Of which none is between those of two spans, so that from the first to the last are the days of a trace.
_MOST_DAYS = 2
_SPAN_FIELDS = SPAN_COLUMNS.count(",") + 1
_TRACE_FIELDS = TRACE_COLUMNS.count(",") + 1
_TEXT_OID = 25
_INT2_MAX, _INT4_MAX, _HALF_INT8 = 2**15 - 1, 2**31 - 1, 2**62
_STATUS_ERROR = 2
#: Of the number of a payment card, the fewest digits: texts and integers that may be one are the reference's.
_CARD_DIGITS = 14
_SMALLEST_CARD = 10 ** (_CARD_DIGITS - 1)


def _packed(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Names as MessagePack writes them, one after another, and where each begins."""
    return _joined([bytes((0xA0 + len(name),)) + name.encode() for name in names])


def _joined(encoded: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join([*encoded, PADDING]), np.uint8), np.cumsum([0, *map(len, encoded)], dtype=np.int64)


_BYTES, _TEXT, _INTEGER, _BOOL, _ARRAY = range(5)
#: What a trace consists of, in its order on the wire. A test holds it against ``ClosedTrace``.
TRACE_FIELDS = {
    "trace_id": _BYTES,
    "revision": _INTEGER,
    "reason": _TEXT,
    "root_span_id": _BYTES,
    "root_service": _TEXT,
    "root_name": _TEXT,
    "start_ns": _INTEGER,
    "end_ns": _INTEGER,
    "first_arrival_ns": _INTEGER,
    "last_arrival_ns": _INTEGER,
    "span_count": _INTEGER,
    "error_count": _INTEGER,
    "duplicate_count": _INTEGER,
    "missing_root": _BOOL,
    "missing_parents": _INTEGER,
    "error_origin": _BYTES,
    "count_milli": _INTEGER,
    "services": _ARRAY,
    "critical_path": _ARRAY,
    "links": _ARRAY,
    "warnings": _ARRAY,
    "resources": _ARRAY,
    "scopes": _ARRAY,
    "spans": _ARRAY,
    "sampled_by": _TEXT,
    "replay_id": _TEXT,
    "part": _INTEGER,
    "parts": _INTEGER,
}
(
    _TRACE_ID,
    _REVISION,
    _REASON,
    _ROOT_SPAN_ID,
    _ROOT_SERVICE,
    _ROOT_NAME,
    _START_NS,
    _END_NS,
    _FIRST_ARRIVAL_NS,
    _LAST_ARRIVAL_NS,
    _SPAN_COUNT,
    _ERROR_COUNT,
    _DUPLICATE_COUNT,
    _MISSING_ROOT,
    _MISSING_PARENTS,
    _ERROR_ORIGIN,
    _COUNT_MILLI,
    _SERVICES,
    _CRITICAL_PATH,
    _LINKS,
    _WARNINGS,
    _RESOURCES,
    _SCOPES,
    _SPANS,
    _SAMPLED_BY,
    _REPLAY_ID,
    _PART,
    _PARTS,
) = range(len(TRACE_FIELDS))
_KINDS = np.array(list(TRACE_FIELDS.values()), np.int64)
#: Of a resource, and of a scope the first two.
_RAW_KEY = len(TRACE_FIELDS)
_KEYS, _KEY_AT = _packed([*TRACE_FIELDS, "raw", "schema_url", "service", "host"])
_REASONS, _REASON_AT = _packed(["complete", "idle", "max_age", "max_spans", "late"])
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
#: 1, 10, 100 and so on, as far as an int64 goes.
_TENS = np.array([10**k for k in range(19)], np.int64)
_HUNDRED = np.uint64(100)
_TWO_DIGITS = np.frombuffer(b"".join(b"%02d" % number for number in range(100)), np.uint8)
#: Protobuf tags: of a Span its trace state, name, attributes, events and status; of an Event its time, name and
#: attributes, and how many of these were dropped; of a Status its message and code.
_TRACE_STATE, _NAME, _ATTRIBUTE, _EVENT, _STATUS_TAG = 0x1A, 0x2A, 0x4A, 0x5A, 0x7A
#: Of a Span, what its row has already or does not have: ids, kind, times, flags, how much was dropped; its attributes.
_READ_ELSEWHERE = (0x0A, 0x12, 0x22, 0x30, 0x39, 0x41, _ATTRIBUTE, 0x50, 0x60, 0x70, 0x85)
_EVENT_TIME, _EVENT_NAME, _EVENT_ATTRIBUTE, _EVENT_DROPPED = 0x09, 0x12, 0x1A, 0x20
_STATUS_MESSAGE, _STATUS_CODE = 0x12, 0x18
#: What a KeyValue that names an error's type begins with: its key, and the tag of its value.
_TYPE_KEYS, _TYPE_KEY_AT = _joined(
    [bytes((0x0A, len(name))) + name.encode() + b"\x12" for name in ERROR_TYPE_ATTRIBUTES]
)
_UNKNOWN_ERROR = np.frombuffer(UNKNOWN_ERROR.encode(), np.uint8)
_NAME_MEMBER, _TIME_MEMBER, _ATTRIBUTES_MEMBER = (
    np.frombuffer(member, np.uint8) for member in (b'{"name":', b',"time_ns":', b',"attributes":')
)


def _json_escapes() -> np.ndarray:
    """By byte: 0, as it is; 1, not ASCII; 2, as \\u00XX; 3, not storable; else what follows a backslash."""
    escapes = np.zeros(256, np.uint8)
    escapes[128:] = 1
    escapes[:32] = 2
    escapes[0] = 3
    for byte, letter in ((8, "b"), (9, "t"), (10, "n"), (12, "f"), (13, "r"), (34, '"'), (92, "\\")):
        escapes[byte] = ord(letter)
    return escapes


_ESCAPES = _json_escapes()
#: Eight bytes alike. Of numpy's type: numba takes a Python number beside an unsigned one for a float.
_ONES, _SPACES, _QUOTES, _ZEROS, _BACKSLASHES, _UP_FROM_TEN, _LOW_BITS, _HIGH_BITS, _ALL = (
    np.uint64(int.from_bytes(bytes(8 * [byte]), "big")) for byte in (1, 32, 34, 48, 92, 118, 127, 128, 255)
)

#: What Python calls is kept compiled; what that calls is compiled into it, or a row would pay for a thousand calls.
entry_point = njit(nogil=True, cache=True, error_model="numpy")
#: Without counts of references (_nrt): who calls holds the arrays, none is made here, and to count costs more than to
#: copy a short text.
compiled = njit(  # type: ignore[call-overload]  # numba's own types leave out these options
    nogil=True, error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
)

#: The same of what is rare.
called = njit(  # type: ignore[call-overload]
    nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
)


# An index is made unsigned (uintp) where every byte of a text is touched, and is never negative there: of a signed one
# each byte asks whether it counts from the end, and no loop is made into vectors. Ten times slower, for the copy of a
# hundred bytes.
#
# Most texts are shorter than that, and are read and written eight bytes at a time, up to seven more than they have:
# behind what is read stands ``PADDING``, and what is written is written over.


@compiled
def _word(b, at):
    """Eight bytes, the first of them lowest. The compiler makes one load of it."""
    word = np.uint64(0)
    for k in range(8):
        word |= np.uint64(b[np.uintp(at + k)]) << np.uint64(8 * k)
    return word


@compiled
def _rest(size):
    """What covers the first bytes of a word, less than eight."""
    return ~(_ALL << np.uint64(8 * size))


@compiled
def _put_word(out, o, word):
    for k in range(8):
        out[np.uintp(o + k)] = (word >> np.uint64(8 * k)) & np.uint64(255)


# ---- what is read: a negative place says that it is not what is expected ----


@compiled
def _integer(b, at, end):
    """A MessagePack integer: its value, and where it ends."""
    if at < 0 or at >= end:
        return np.int64(0), np.int64(-1)
    tag = np.int64(b[at])
    if tag < 0x80:
        return tag, at + 1
    if tag >= 0xE0:
        return tag - 256, at + 1
    if tag == 0xCF or tag == 0xD3:
        # Every time is one.
        if at + 9 > end:
            return np.int64(0), np.int64(-1)
        word = np.uint64(0)
        for k in range(8):
            word |= np.uint64(b[np.uintp(at + 1 + k)]) << np.uint64(56 - 8 * k)
        value = np.int64(word)
        return (np.int64(0), np.int64(-1)) if tag == 0xCF and value < 0 else (value, at + 9)
    if tag == 0xCC or tag == 0xD0:
        size = 1
    elif tag == 0xCD or tag == 0xD1:
        size = 2
    elif tag == 0xCE or tag == 0xD2:
        size = 4
    else:
        return np.int64(0), np.int64(-1)
    if at + 1 + size > end:
        return np.int64(0), np.int64(-1)
    value = np.int64(0)
    for k in range(at + 1, at + 1 + size):
        value = (value << 8) | np.int64(b[k])
    if 0xD0 <= tag <= 0xD2 and value >> (8 * size - 1):
        value -= np.int64(1) << (8 * size)
    return value, at + 1 + size


@compiled
def _sized(b, at, end, is_text):
    """MessagePack bytes or a text: where it begins, and where it ends."""
    if at < 0 or at >= end:
        return np.int64(0), np.int64(-1)
    tag = np.int64(b[at])
    if is_text and 0xA0 <= tag < 0xC0:
        start, size = at + 1, tag & 31
    else:
        first = 0xD9 if is_text else 0xC4
        if tag < first or tag > first + 2:
            return np.int64(0), np.int64(-1)
        width = 1 << (tag - first)
        start, size = at + 1 + width, np.int64(0)
        if start > end:
            return np.int64(0), np.int64(-1)
        for k in range(at + 1, start):
            size = (size << 8) | np.int64(b[k])
    if start + size > end:
        return np.int64(0), np.int64(-1)
    return start, start + size


@compiled
def _items(b, at, end):
    """The head of a MessagePack array: how many items, and where the first begins."""
    if at < 0 or at >= end:
        return np.int64(0), np.int64(-1)
    tag = np.int64(b[at])
    if 0x90 <= tag < 0xA0:
        return tag & 15, at + 1
    if tag == 0xDC:
        start = at + 3
    elif tag == 0xDD:
        start = at + 5
    else:
        return np.int64(0), np.int64(-1)
    if start > end:
        return np.int64(0), np.int64(-1)
    count = np.int64(0)
    for k in range(at + 1, start):
        count = (count << 8) | np.int64(b[k])
    return count, start


@compiled
def _after_key(b, at, end, key):
    """Where the key number ``key`` ends."""
    start, size = _KEY_AT[key], _KEY_AT[key + 1] - _KEY_AT[key]
    if at < 0 or at + size > end or not _is_same(b, at, size, _KEYS, start):
        return np.int64(-1)
    return at + size


@called
def _after_value(b, at, end):
    """Where any MessagePack value of those on the wire ends."""
    waiting = np.int64(1)
    while waiting:
        if at < 0 or at >= end:
            return np.int64(-1)
        tag = np.int64(b[at])
        waiting -= 1
        if 0xA0 <= tag < 0xC0 or 0xD9 <= tag <= 0xDB:
            _, at = _sized(b, at, end, True)
        elif 0xC4 <= tag <= 0xC6:
            _, at = _sized(b, at, end, False)
        elif 0x90 <= tag < 0xA0 or tag == 0xDC or tag == 0xDD:
            count, at = _items(b, at, end)
            waiting += count
        elif 0x80 <= tag < 0x90:
            waiting += 2 * (tag & 15)
            at += 1
        elif tag == 0xC2 or tag == 0xC3:
            at += 1
        else:
            _, at = _integer(b, at, end)
    return at


@compiled
def _varint(b, at, end):
    """A protobuf varint, as a signed integer, and where it ends."""
    value, shift = np.int64(0), np.int64(0)
    while at < end:
        byte = np.int64(b[at])
        at += 1
        if shift == 63 and byte > 1:
            break
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return np.int64(0), np.int64(-1)


@compiled
def _field(b, at, end):
    """A protobuf field: its tag, where its value begins, and where that ends."""
    if at >= end:
        return np.int64(0), np.int64(0), np.int64(-1)
    tag = np.int64(b[at])
    at += 1
    if tag >= 128:
        if at >= end or b[at] >= 128:
            return np.int64(0), np.int64(0), np.int64(-1)
        tag = (tag & 127) | np.int64(b[at]) << 7
        at += 1
    start, kind = at, tag & 7
    if kind == 0:
        _, at = _varint(b, at, end)
    elif kind == 1:
        at += 8
    elif kind == 2:
        size, start = _varint(b, at, end)
        if start < 0 or size < 0 or size > end - start:
            return np.int64(0), np.int64(0), np.int64(-1)
        at = start + size
    elif kind == 5:
        at += 4
    else:
        at = np.int64(-1)
    return (tag, start, at) if at <= end else (np.int64(0), np.int64(0), np.int64(-1))


@called
def _is_utf8(b, at, end):
    while at < end:
        c = b[at]
        if c < 0x80:
            at += 1
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= c <= 0xDF:
            more = 1
        elif 0xE0 <= c <= 0xEF:
            more = 2
            if c == 0xE0:
                low = 0xA0
            elif c == 0xED:
                high = 0x9F
        elif 0xF0 <= c <= 0xF4:
            more = 3
            if c == 0xF0:
                low = 0x90
            elif c == 0xF4:
                high = 0x8F
        else:
            return False
        if at + more >= end:
            return False
        if b[at + 1] < low or b[at + 1] > high:
            return False
        for k in range(at + 2, at + 1 + more):
            if b[k] < 0x80 or b[k] > 0xBF:
                return False
        at += 1 + more
    return True


@compiled
def _hash(b, at, end):
    value = np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(end - at)
    while at + 8 <= end:
        value = (value ^ _word(b, at)) * np.uint64(0xBF58476D1CE4E5B9)
        value ^= value >> np.uint64(32)
        at += 8
    value = (value ^ (_word(b, at) & _rest(end - at))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.int64((value ^ (value >> np.uint64(32))) & np.uint64(0x7FFFFFFF))


@compiled
def _is_same(b, at, size, c, c_at):
    k = np.int64(0)
    while k + 8 <= size:
        if _word(b, at + k) != _word(c, c_at + k):
            return False
        k += 8
    return (_word(b, at + k) ^ _word(c, c_at + k)) & _rest(size - k) == np.uint64(0)


# ---- what is written: where it ends, negative if it cannot be stored ----


@compiled
def _put(out, o, value, size):
    for k in range(size):
        out[np.uintp(o + k)] = (value >> (8 * (size - 1 - k))) & 255
    return o + size


@compiled
def _put_int8(out, o, value):
    _put(out, o, np.int64(8), 4)
    return _put(out, o + 4, value, 8)


@compiled
def _put_null(out, o):
    return _put(out, o, np.int64(-1), 4)


@compiled
def _put_bytes(out, o, b, at, end):
    return _put_as_is(out, _put(out, o, end - at, 4), b, at, end)


@compiled
def _put_as_is(out, o, b, at, end):
    for k in range(end - at):
        out[np.uintp(o + k)] = b[np.uintp(at + k)]
    return o + end - at


@compiled
def _put_short(out, o, b, at, end):
    """Some bytes, most often few, eight at a time."""
    size = end - at
    k = np.int64(0)
    while k < size:
        _put_word(out, o + k, _word(b, at + k))
        k += 8
    return o + size


@compiled
def _put_bytes_or_null(out, o, b, at, end):
    if at == end:
        return _put_null(out, o)
    return _put_bytes(out, o, b, at, end)


@compiled
def _put_text(out, o, b, at, end):
    """A text, if it is UTF-8 without NUL."""
    start, o = at, _put(out, o, end - at, 4)
    seen = nuls = np.uint64(0)
    while at + 8 <= end:
        word = _word(b, at)
        _put_word(out, o, word)
        seen |= word
        nuls |= (word - _ONES) & ~word
        at += 8
        o += 8
    if at < end:
        word = _word(b, at)
        _put_word(out, o, word)
        word = (word & _rest(end - at)) | (_SPACES & ~_rest(end - at))
        seen |= word
        nuls |= (word - _ONES) & ~word
    if nuls & _HIGH_BITS or (seen & _HIGH_BITS and not _is_utf8(b, start, end)):
        return np.int64(-1)
    return o + end - at


@called
def _put_texts(out, o, b, at, end):
    """A MessagePack array of texts as text[]."""
    count, at = _items(b, at, end)
    start = o
    o = _put(out, o + 4, np.int64(1 if count else 0), 4)
    o = _put(out, o, np.int64(0), 4)
    o = _put(out, o, np.int64(_TEXT_OID), 4)
    if count:
        o = _put(out, o, count, 4)
        o = _put(out, o, np.int64(1), 4)
    for _ in range(count):
        text, at = _sized(b, at, end, True)
        if at < 0:
            return np.int64(-1)
        o = _put_text(out, o, b, text, at)
        if o < 0:
            return o
    _put(out, start, o - start - 4, 4)
    return o


@compiled
def _may_have_card(b, at, end):
    """Whether a text has so many digits, perhaps in groups, as a payment card's number."""
    if end - at < _CARD_DIGITS:
        return False
    digits = np.uint64(0)
    for k in range(at, end, 8):
        word = _word(b, k) ^ _ZEROS
        if k + 8 > end:
            word |= ~_rest(end - k)
        # The high bit of each byte that is no digit, which less its zero is 10 at least.
        others = ((word & _LOW_BITS) + _UP_FROM_TEN) | word
        digits += (((~others & _HIGH_BITS) >> np.uint64(7)) * _ONES) >> np.uint64(56)
    return digits >= np.uint64(_CARD_DIGITS) and _has_card(b, at, end)


@called
def _has_card(b, at, end):
    digits = np.int64(0)
    is_digit = False
    for k in range(at, end):
        c = b[k]
        if 48 <= c <= 57:
            digits += 1
            is_digit = True
            if digits == _CARD_DIGITS:
                return True
        elif is_digit and (c == 32 or c == 45):
            is_digit = False
        else:
            digits = np.int64(0)
            is_digit = False
    return False


@compiled
def _put_json_text(out, o, b, at, end):
    """A text in quotes. Most need no escapes, which is seen while they are copied."""
    out[np.uintp(o)] = 34
    start, w = at, o + 1
    odd = np.uint64(0)
    while at + 8 <= end:
        word = _word(b, at)
        _put_word(out, w, word)
        odd |= _oddness(word)
        at += 8
        w += 8
    if at < end:
        word = _word(b, at)
        _put_word(out, w, word)
        odd |= _oddness((word & _rest(end - at)) | (_SPACES & ~_rest(end - at)))
    if odd & _HIGH_BITS:
        return _put_escaped(out, o, b, start, end)
    w += end - at
    out[np.uintp(w)] = 34
    return w + 1


@compiled
def _oddness(word):
    """Whether a byte of eight is none of those that JSON has as they are and ASCII has: then some high bit is set.

    The high bit of a byte tells: of itself that it is not ASCII; less 32 that it is a control character; less 1 that it
    is zero, which a quote is once it is compared, and a backslash. A borrow from the byte below may tell so wrongly,
    but only where another byte has told.
    """
    return word | (word - _SPACES) | ((word ^ _QUOTES) - _ONES) | ((word ^ _BACKSLASHES) - _ONES)


@called
def _put_escaped(out, o, b, at, end):
    out[o] = 34
    o += 1
    is_ascii = True
    for k in range(at, end):
        c = b[k]
        escape = _ESCAPES[c]
        if escape == 0:
            out[o] = c
            o += 1
        elif escape == 1:
            is_ascii = False
            out[o] = c
            o += 1
        elif escape == 3:
            return np.int64(-1)
        else:
            out[o] = 92
            if escape == 2:
                out[o + 1] = 117
                out[o + 2] = 48
                out[o + 3] = 48
                out[o + 4] = _HEX[c >> 4]
                out[o + 5] = _HEX[c & 15]
                o += 6
            else:
                out[o + 1] = escape
                o += 2
    if not is_ascii and not _is_utf8(b, at, end):
        return np.int64(-1)
    out[o] = 34
    return o + 1


@called
def _put_decimal(out, o, value):
    if value < 0:
        out[o] = 45
        o += 1
        if value == -9223372036854775808:
            # Its opposite is no int64: the last digit is written apart.
            o = _put_decimal_digits(out, o, np.int64(922337203685477580))
            out[o] = 56
            return o + 1
        value = -value
    return _put_decimal_digits(out, o, value)


@compiled
def _put_decimal_digits(out, o, value):
    """Two digits at a time, from the last."""
    size = 1
    while size < _TENS.size and value >= _TENS[size]:
        size += 1
    rest, w = np.uint64(value), o + size
    while rest >= _HUNDRED:
        left = rest // _HUNDRED
        w -= 2
        _put_two_digits(out, w, rest - left * _HUNDRED)
        rest = left
    if w - o == 2:
        _put_two_digits(out, o, rest)
    else:
        out[np.uintp(o)] = np.uint64(48) + rest
    return o + size


@compiled
def _put_two_digits(out, o, number):
    out[np.uintp(o)] = _TWO_DIGITS[np.uintp(2 * number)]
    out[np.uintp(o + 1)] = _TWO_DIGITS[np.uintp(2 * number + 1)]


@compiled
def _put_attribute(out, o, b, at, end, keys, missing, state, number):
    """A KeyValue as a member of a JSON object: a text, an integer or a boolean; others are the reference's.

    ``number``: which attribute of its span or event it is. Most often it has the same key as that of the one before.
    """
    if at >= end or b[at] != 0x0A:
        return np.int64(-1)
    size, key = _varint(b, at + 1, end)
    if key < 0 or size < 0 or size > end - key:
        return np.int64(-1)
    at = key + size
    if at >= end or b[at] != 0x12:
        return np.int64(-1)
    size, value = _varint(b, at + 1, end)
    if value < 0 or size < 2 or value + size != end:
        return np.int64(-1)
    guess = STATE + number % GUESSES
    entry = state[guess]
    if entry < 0 or not _is_entry(b, key, at, keys[1], keys[2], entry):
        entry = _slot_of(b, key, at, keys[0], keys[1], keys[2])
        if entry < 0:
            # Nothing is written of this record, so that others of its keys may be noted, too.
            return o if _note_missing(missing, state, KEY, key, at) else np.int64(-1)
        state[guess] = entry
    if keys[4][entry] == UNFIT:
        return np.int64(-1)
    if keys[3][entry] == AS_IT_IS:
        out[np.uintp(o)] = 34
        o = _put_short(out, o + 1, b, key, at)
        out[np.uintp(o)] = 34
        o += 1
    else:
        o = _put_json_text(out, o, b, key, at)
        if o < 0:
            return o
    out[np.uintp(o)] = 58
    o += 1
    tag = b[value]
    number, at = _varint(b, value + 1, end)
    if at < 0:
        return np.int64(-1)
    if tag == 0x0A:
        if number < 0 or number != end - at or _may_have_card(b, at, end):
            return np.int64(-1)
        return _put_json_text(out, o, b, at, end)
    if at != end:
        return np.int64(-1)
    if tag == 0x18 and number < _SMALLEST_CARD:
        return _put_decimal(out, o, number)
    if tag == 0x10 and number == 1:
        out[o], out[o + 1], out[o + 2], out[o + 3] = 116, 114, 117, 101
        return o + 4
    if tag == 0x10 and number == 0:
        out[o], out[o + 1], out[o + 2], out[o + 3], out[o + 4] = 102, 97, 108, 115, 101
        return o + 5
    return np.int64(-1)


@compiled
def _put_attributes(out, o, b, at, end, keys, missing, state):
    """The attributes of a Span message as jsonb; negative if it has events, links, a message, or is no such message."""
    start = o
    out[o + 4] = 1
    out[o + 5] = 123
    o += 6
    first = o
    number = np.int64(0)
    while at < end:
        tag = b[at]
        at += 1
        if tag == 0x4A:
            size, at = _varint(b, at, end)
            if at < 0 or size < 0 or size > end - at:
                return np.int64(-1)
            if o != first:
                out[o] = 44
                o += 1
            o = _put_attribute(out, o, b, at, at + size, keys, missing, state, number)
            if o < 0:
                return o
            at += size
            number += 1
        elif tag == 0x39 or tag == 0x41:
            at += 8
        elif tag == 0x30 or tag == 0x50 or tag == 0x60 or tag == 0x70:
            _, at = _varint(b, at, end)
            if at < 0:
                return np.int64(-1)
        elif tag == 0x0A or tag == 0x12 or tag == 0x1A or tag == 0x22 or tag == 0x2A:
            size, at = _varint(b, at, end)
            if at < 0 or size < 0 or size > end - at:
                return np.int64(-1)
            at += size
        elif tag == 0x7A:
            # A status: empty, or a code alone.
            if at < end and b[at] == 0:
                at += 1
            elif at + 2 < end and b[at] == 2 and b[at + 1] == 0x18 and b[at + 2] < 128:
                at += 3
            else:
                return np.int64(-1)
        elif tag == 0x85 and at < end and b[at] == 1:
            at += 5
        else:
            return np.int64(-1)
    if at != end:
        return np.int64(-1)
    out[o] = 125
    o += 1
    _put(out, start, o - start - 4, 4)
    return o


@called
def _put_detail(out, o, b, at, end, is_error, warnings, warnings_end, keys, missing, state, error):
    """What stands between the name and the bytes of a span: of one that is an error, or has events or warnings.

    Negative if it has links, or is otherwise for the reference. Of an error, its message and type are noted.
    """
    raw = at
    message = message_end = np.int64(0)
    is_said = has_events = False
    while at < end:
        tag, start, at = _field(b, at, end)
        if at < 0:
            return at
        if tag == _STATUS_TAG:
            # Of two, protobuf makes one.
            if is_said:
                return np.int64(-1)
            is_said = True
            place = start
            while place < at:
                tag, text, place = _field(b, place, at)
                if place >= 0 and tag == _STATUS_MESSAGE and message == message_end:
                    message, message_end = text, place
                elif place < 0 or tag != _STATUS_CODE:
                    return np.int64(-1)
        elif tag in (_TRACE_STATE, _NAME):
            # Not what the row says, but the reference reads them where there is a status.
            if not _is_utf8(b, start, at):
                return np.int64(-1)
        elif tag == _EVENT:
            has_events = True
        elif tag not in _READ_ELSEWHERE:
            return np.int64(-1)
    if message == message_end:
        o = _put_null(out, o)
    elif _may_have_card(b, message, message_end):
        return np.int64(-1)
    else:
        o = _put_text(out, o, b, message, message_end)
        if o < 0:
            return o
    if is_error:
        type_at = o + 4
        o = _put_error_type(out, o, b, raw, end)
        error[MESSAGE_AT], error[MESSAGE_UNTIL], error[TYPE_AT], error[TYPE_UNTIL] = message, message_end, type_at, o
    else:
        o = _put_null(out, o)
    if o < 0:
        return o
    o = _put_null(out, o) if b[warnings] == 0x90 else _put_texts(out, o, b, warnings, warnings_end)
    if o < 0:
        return o
    start = o
    out[o + 4] = 1
    o = _put_object(out, o + 5, b, raw, end, _ATTRIBUTE, keys, missing, state)
    if o < 0:
        return o
    _put(out, start, o - start - 4, 4)
    o = _put_events(out, o, b, raw, end, keys, missing, state) if has_events else _put_null(out, o)
    return _put_null(out, o) if o >= 0 else o


@compiled
def _put_object(out, o, b, at, end, attribute, keys, missing, state):
    """The attributes of a Span or an Event as a JSON object."""
    out[o] = 123
    o += 1
    first = o
    number = np.int64(0)
    while at < end:
        tag, start, at = _field(b, at, end)
        if tag != attribute:
            continue
        if o != first:
            out[o] = 44
            o += 1
        o = _put_attribute(out, o, b, start, at, keys, missing, state, number)
        if o < 0:
            return o
        number += 1
    out[o] = 125
    return o + 1


@compiled
def _put_events(out, o, b, at, end, keys, missing, state):
    """The events of a Span as jsonb."""
    start = o
    out[o + 4] = 1
    out[o + 5] = 91
    o += 6
    first = o
    while at < end:
        tag, event, at = _field(b, at, end)
        if tag != _EVENT:
            continue
        if o != first:
            out[o] = 44
            o += 1
        o = _put_event(out, o, b, event, at, keys, missing, state)
        if o < 0:
            return o
    out[o] = 93
    o += 1
    _put(out, start, o - start - 4, 4)
    return o


@compiled
def _put_event(out, o, b, at, end, keys, missing, state):
    """An event as a JSON object. One without its time is the reference's: there is no room for more JSON than that."""
    event, time_at = at, np.int64(-1)
    name = name_end = np.int64(0)
    while at < end:
        tag, start, at = _field(b, at, end)
        if at < 0:
            return at
        if tag == _EVENT_TIME and time_at < 0:
            time_at = start
        elif tag == _EVENT_NAME and name == name_end:
            name, name_end = start, at
        elif tag != _EVENT_ATTRIBUTE and tag != _EVENT_DROPPED:
            return np.int64(-1)
    if time_at < 0 or b[time_at + 7] >= 128 or _may_have_card(b, name, name_end):
        return np.int64(-1)
    time_ns = np.int64(0)
    for k in range(8):
        time_ns |= np.int64(b[time_at + k]) << (8 * k)
    o = _put_as_is(out, o, _NAME_MEMBER, 0, _NAME_MEMBER.size)
    o = _put_json_text(out, o, b, name, name_end)
    if o < 0:
        return o
    o = _put_as_is(out, o, _TIME_MEMBER, 0, _TIME_MEMBER.size)
    o = _put_decimal(out, o, time_ns)
    o = _put_as_is(out, o, _ATTRIBUTES_MEMBER, 0, _ATTRIBUTES_MEMBER.size)
    o = _put_object(out, o, b, event, end, _EVENT_ATTRIBUTE, keys, missing, state)
    if o < 0:
        return o
    out[o] = 125
    return o + 1


@compiled
def _put_error_type(out, o, b, at, end):
    """What kind of error a Span has, as ``detail.error_type`` tells it; its attributes are checked elsewhere."""
    start = o + 4
    o = _put_error_name(out, start, b, at, end, _ATTRIBUTE)
    while o == start and at < end:
        tag, event, at = _field(b, at, end)
        if tag == _EVENT:
            o = _put_error_name(out, start, b, event, at, _EVENT_ATTRIBUTE)
    if o == start:
        o = _put_as_is(out, o, _UNKNOWN_ERROR, 0, _UNKNOWN_ERROR.size)
    if o >= 0:
        _put(out, start - 4, o - start, 4)
    return o


@called
def _put_error_name(out, o, b, at, end, attribute):
    """The first of ``detail.ERROR_TYPE_ATTRIBUTES`` that says something; of one that is there twice the last counts."""
    for number in range(_TYPE_KEY_AT.size - 1):
        key, size = _TYPE_KEY_AT[number], _TYPE_KEY_AT[number + 1] - _TYPE_KEY_AT[number]
        value = value_end = np.int64(0)
        place = at
        while place < end:
            tag, start, place = _field(b, place, end)
            if place < 0:
                return place
            if tag == attribute and place - start > size and _is_same(b, start, size, _TYPE_KEYS, key):
                _, value = _varint(b, start + size, place)
                value_end = place
        if value < 0:
            return value
        if value_end - value < 2:
            continue
        tag = b[value]
        said, text = _varint(b, value + 1, value_end)
        if text < 0 or (tag == 0x0A and value_end - text > ERROR_TYPE_LENGTH):
            return np.int64(-1)
        if tag == 0x0A and value_end > text:
            return _put_as_is(out, o, b, text, value_end)
        if tag == 0x18 and said:
            return _put_decimal(out, o, said)
        if tag == 0x10 and said:
            return np.int64(-1)
    return o


@called
def _put_path(out, o, b, at, end):
    """Segments of a critical path as jsonb."""
    count, at = _items(b, at, end)
    start = o
    out[o + 4] = 1
    out[o + 5] = 91
    o += 6
    for number in range(count):
        if at + 1 > end or b[at] != 0x93:
            return np.int64(-1)
        span_id, at = _sized(b, at + 1, end, False)
        if at < 0 or at - span_id > 255:
            return np.int64(-1)
        if number:
            out[o] = 44
            o += 1
        out[o] = 91
        out[o + 1] = 34
        o += 2
        for k in range(span_id, at):
            out[o] = _HEX[b[k] >> 4]
            out[o + 1] = _HEX[b[k] & 15]
            o += 2
        out[o] = 34
        o += 1
        for _ in range(2):
            value, at = _integer(b, at, end)
            if at < 0:
                return np.int64(-1)
            out[o] = 44
            o = _put_decimal(out, o + 1, value)
        out[o] = 93
        o += 1
    out[o] = 93
    o += 1
    _put(out, start, o - start - 4, 4)
    return o


@called
def _put_links(out, o, b, at, end):
    """Links between services as jsonb."""
    count, at = _items(b, at, end)
    start = o
    out[o + 4] = 1
    out[o + 5] = 91
    o += 6
    for number in range(count):
        if at + 1 > end or b[at] != 0x98:
            return np.int64(-1)
        at += 1
        if number:
            out[o] = 44
            o += 1
        out[o] = 91
        o += 1
        for _ in range(3):
            text, at = _sized(b, at, end, True)
            if at < 0 or at - text > LONGEST_INDEXED:
                return np.int64(-1)
            o = _put_json_text(out, o, b, text, at)
            if o < 0:
                return o
            out[o] = 44
            o += 1
        for _k in range(5):
            value, at = _integer(b, at, end)
            if at < 0:
                return np.int64(-1)
            o = _put_decimal(out, o, value)
            out[o] = 44
            o += 1
        out[o - 1] = 93
    out[o] = 93
    o += 1
    _put(out, start, o - start - 4, 4)
    return o


# ---- resources and scopes: by their bytes, in tables that ``packer.SharedTable`` fills ----


@compiled
def _after_shared(b, at, end, fields):
    """Where a resource (4 fields) or a scope (2) ends."""
    if at >= end or b[at] != 0x80 + fields:
        return np.int64(-1)
    at += 1
    for number in range(fields):
        at = _after_key(b, at, end, _RAW_KEY + number)
        if at < 0:
            return at
        _, at = _sized(b, at, end, number > 0)
        if at < 0:
            return at
    return at


@compiled
def _is_entry(b, at, end, pool, pool_at, entry):
    """Whether an entry of a table has these bytes."""
    size = pool_at[entry + 1] - pool_at[entry]
    return size == end - at and _is_same(b, at, size, pool, pool_at[entry])


@compiled
def _slot_of(b, at, end, slots, pool, pool_at):
    """Which entry of a table has these bytes; -1 for none."""
    mask = slots.size - 1
    place = _hash(b, at, end) & mask
    while slots[place] >= 0:
        if _is_entry(b, at, end, pool, pool_at, slots[place]):
            return np.int64(slots[place])
        place = (place + 1) & mask
    return np.int64(-1)


@entry_point
def slot_of(b, at, end, slots, pool, pool_at):
    """Which entry of a table has these bytes; -1 for none."""
    return _slot_of(b, at, end, slots, pool, pool_at)


@entry_point
def place_of(b, at, end, slots):
    """Where an entry with these bytes, which no table has yet, is to be noted."""
    mask = slots.size - 1
    place = _hash(b, at, end) & mask
    while slots[place] >= 0:
        place = (place + 1) & mask
    return place


@compiled
def _note_missing(missing, state, kind, at, end):
    """Note what is unknown; False if the list is full."""
    if state[3] == missing.shape[0]:
        return False
    missing[state[3], 0], missing[state[3], 1], missing[state[3], 2] = kind, at, end
    state[3] += 1
    return True


@called
def _known_shared(b, at, end, fields, table, entries, missing, state):
    """Entries of an array of resources or scopes: how many, -1 if it is none, and whether all are known."""
    slots, pool, pool_at, _, used = table
    count, at = _items(b, at, end)
    if count > entries.size:
        return np.int64(-1), False
    are_known = True
    for number in range(count):
        start = at
        at = _after_shared(b, at, end, fields)
        if at < 0:
            return np.int64(-1), False
        entries[number] = _slot_of(b, start, at, slots, pool, pool_at)
        if entries[number] < 0:
            are_known = False
            _note_missing(missing, state, fields, start, at)
        elif used[entries[number]] == UNFIT:
            return np.int64(-1), False
    return count if at == end else np.int64(-1), are_known


@compiled
def _note_use(table, entries, count, day):
    used = table[4]
    for number in range(count):
        if used[entries[number]] < day:
            used[entries[number]] = day


# ---- a record ----


@called
def _fields(b, at, end, fields, first, last):
    """Read a trace's fields: numbers as the first of two, else where each begins and ends. Where the last ends."""
    for number in range(first, last):
        at = _after_key(b, at, end, number)
        if at < 0:
            return at
        kind = _KINDS[number]
        fields[number, 0] = at
        if kind <= _TEXT:
            fields[number, 0], at = _sized(b, at, end, kind == _TEXT)
        elif kind == _INTEGER:
            fields[number, 0], at = _integer(b, at, end)
        elif kind == _BOOL:
            if at >= end or (b[at] != 0xC2 and b[at] != 0xC3):
                return np.int64(-1)
            fields[number, 0] = b[at] == 0xC3
            at += 1
        else:
            at = _after_value(b, at, end)
        if at < 0:
            return at
        fields[number, 1] = at
    return at


@called
def _is_credible(b, f):
    """Whether nothing about the trace as a whole is for the reference to judge."""
    is_reason = False
    for k in range(_REASON_AT.size - 1):
        size = _REASON_AT[k + 1] - _REASON_AT[k] - 1
        if size == f[_REASON, 1] - f[_REASON, 0] and _is_same(b, f[_REASON, 0], size, _REASONS, _REASON_AT[k] + 1):
            is_reason = True
    last_arrival_ns, end_ns = f[_LAST_ARRIVAL_NS, 0], f[_END_NS, 0]
    return (
        is_reason
        and f[_TRACE_ID, 1] - f[_TRACE_ID, 0] == 16
        and b[f[_TRACE_ID, 0] - 2] == 0xC4  # where ``packed.trace_id_in`` looks for it
        and not _may_have_card(b, f[_ROOT_NAME, 0], f[_ROOT_NAME, 1])
        and f[_ROOT_SERVICE, 1] - f[_ROOT_SERVICE, 0] <= LONGEST_INDEXED
        and 0 <= last_arrival_ns < _HALF_INT8
        and 0 <= end_ns < _HALF_INT8
        and EARLIEST_NS <= f[_START_NS, 0] <= last_arrival_ns + LATEST_AFTER_ARRIVAL_NS
    )


@compiled
def _is_new(b, at, seen, mask, stamp):
    """Note a span id; False if the trace had it before."""
    value = np.int64(0)
    for k in range(at, at + 8):
        value = (value << 8) | np.int64(b[k])
    place = _hash(b, at, at + 8) & mask
    while seen[place, 1] == stamp:
        if seen[place, 0] == value:
            return False
        place = (place + 1) & mask
    seen[place, 0], seen[place, 1] = value, stamp
    return True


@called
def _trace_row(b, f, spans_from_ns, spans_until_ns, error_service, error_service_end, digests, digest_at, out, o):
    """The row of a trace; negative if it cannot be stored as it is."""
    start_ns = f[_START_NS, 0]
    o = _put(out, o, np.int64(_TRACE_FIELDS), 2)
    o = _put_bytes(out, o, b, f[_TRACE_ID, 0], f[_TRACE_ID, 1])
    o = _put_int8(out, o, start_ns // 1000 - POSTGRES_EPOCH_US)
    o = _put_int8(out, o, start_ns)
    o = _put_int8(out, o, f[_END_NS, 0] - start_ns)
    o = _put_int8(out, o, spans_from_ns // 1000 - POSTGRES_EPOCH_US)
    o = _put_int8(out, o, spans_until_ns // 1000 - POSTGRES_EPOCH_US)
    o = _put_int8(out, o, f[_FIRST_ARRIVAL_NS, 0])
    o = _put_int8(out, o, f[_LAST_ARRIVAL_NS, 0])
    o = _put_int8(out, o, f[_COUNT_MILLI, 0])
    for field in (_REVISION, _SPAN_COUNT, _ERROR_COUNT, _DUPLICATE_COUNT, _MISSING_PARENTS):
        value = f[field, 0]
        o = _put(out, o, np.int64(4), 4)
        o = _put(out, o, value if 0 <= value <= _INT4_MAX else np.int64(_INT4_MAX), 4)
    o = _put(out, o, np.int64(1), 4)
    o = _put(out, o, f[_MISSING_ROOT, 0], 1)
    o = _put(out, o, np.int64(1), 4)
    o = _put(out, o, np.int64(f[_MISSING_ROOT, 0] == 0 and f[_MISSING_PARENTS, 0] == 0), 1)
    for field in (_REASON, _ROOT_SERVICE, _ROOT_NAME):
        o = _put_text(out, o, b, f[field, 0], f[field, 1])
        if o < 0:
            return o
    o = _put_bytes(out, o, b, f[_ROOT_SPAN_ID, 0], f[_ROOT_SPAN_ID, 1])
    o = _put_bytes_or_null(out, o, b, f[_ERROR_ORIGIN, 0], f[_ERROR_ORIGIN, 1])
    o = _put_bytes_or_null(out, o, b, error_service, error_service_end)
    for field in (_SERVICES, _WARNINGS):
        o = _put_texts(out, o, b, f[field, 0], f[field, 1])
        if o < 0:
            return o
    o = _put_path(out, o, b, f[_CRITICAL_PATH, 0], f[_CRITICAL_PATH, 1])
    if o < 0:
        return o
    o = _put_links(out, o, b, f[_LINKS, 0], f[_LINKS, 1])
    if o < 0:
        return o
    for field in (_SAMPLED_BY, _REPLAY_ID):
        o = _put_text(out, o, b, f[field, 0], f[field, 1])
        if o < 0:
            return o
    return _put_bytes(out, o, digests, digest_at, digest_at + 16)


@compiled
def _span_ids(b, at, end):
    """Where the three ids of a span begin, 0 for none, and where the last ends."""
    span_id, at = _sized(b, at, end, False)
    if at < 0 or at - span_id != 8:
        return np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    parent, at = _sized(b, at, end, False)
    if at < 0 or (at != parent and at - parent != 8):
        return np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    if at == parent:
        parent = np.int64(0)
    tree_parent, at = _sized(b, at, end, False)
    if at < 0 or (at != tree_parent and at - tree_parent != 8):
        return np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    if at == tree_parent:
        tree_parent = np.int64(0)
    return span_id, parent, tree_parent, at


@compiled
def _record(
    b,
    at,
    end,
    digests,
    digest_at,
    resources,
    scopes,
    keys,
    out,
    trace_out,
    row,
    odd,
    errors,
    missing,
    scratch,
    state,
):
    """One record. What it wrote counts only if it is done: ``state`` is brought up to date by that alone."""
    f, resource_entries, scope_entries, seen = scratch
    if end - at < 3 or b[at] != 0xDE or b[at + 1] != 0 or b[at + 2] != f.shape[0]:
        return REFUSED
    # The spans are read once, by what follows: they are most of a record.
    spans = _after_key(b, _fields(b, at + 3, end, f, 0, _SPANS), end, _SPANS)
    if spans < 0 or not _is_credible(b, f):
        return REFUSED
    trace_id = f[_TRACE_ID, 0]
    resource_count, know_resources = _known_shared(
        b, f[_RESOURCES, 0], f[_RESOURCES, 1], 4, resources, resource_entries, missing, state
    )
    scope_count, know_scopes = _known_shared(b, f[_SCOPES, 0], f[_SCOPES, 1], 2, scopes, scope_entries, missing, state)
    if resource_count < 0 or scope_count < 0:
        return REFUSED
    if not know_resources or not know_scopes:
        return UNKNOWN
    count, at = _items(b, spans, end)
    if count == 0 or count > MOST_SPANS:
        return REFUSED
    # Of the marks as many as are twice the spans, so that those of a small trace are near.
    mask = np.int64(1)
    while mask < 2 * count:
        mask *= 2
    mask -= 1
    latest_ns = f[_LAST_ARRIVAL_NS, 0] + LATEST_AFTER_ARRIVAL_NS
    first_ns, last_ns = latest_ns, np.int64(0)
    origin, origin_end = f[_ERROR_ORIGIN, 0], f[_ERROR_ORIGIN, 1]
    error_service = error_service_end = np.int64(-1)
    o, odds, unknown, failed = state[0], state[2], state[3], state[5]
    for _ in range(count):
        span_at = at
        if at + 3 > end or b[at] != 0xDC or b[at + 1] != 0 or b[at + 2] != 18:
            return REFUSED
        span_id, parent, tree_parent, at = _span_ids(b, at + 3, end)
        if at < 0:
            return REFUSED
        depth, at = _integer(b, at, end)
        service, at = _sized(b, at, end, True)
        service_end = at
        name, at = _sized(b, at, end, True)
        name_end = at
        kind, at = _integer(b, at, end)
        status, at = _integer(b, at, end)
        start_ns, at = _integer(b, at, end)
        end_ns, at = _integer(b, at, end)
        skew_ns, at = _integer(b, at, end)
        self_time_ns, at = _integer(b, at, end)
        path_ns, at = _integer(b, at, end)
        gap_ns, at = _integer(b, at, end)
        warnings = at
        at = _after_value(b, at, end)
        warnings_end = at
        resource, at = _integer(b, at, end)
        scope, at = _integer(b, at, end)
        raw, at = _sized(b, at, end, False)
        # Numbers and texts answer -1 for a place that does not follow from another, so that one look is enough.
        if at < 0 or service_end < 0 or name_end < 0 or warnings < 0:
            return REFUSED
        if (
            not 0 <= resource < resource_count
            or not 0 <= scope < scope_count
            or not EARLIEST_NS <= start_ns <= latest_ns
            or not -_HALF_INT8 < end_ns < _HALF_INT8
            or not -_INT4_MAX <= depth <= _INT4_MAX
            or not -_INT2_MAX <= kind <= _INT2_MAX
            or not -_INT2_MAX <= status <= _INT2_MAX
            or service_end - service > LONGEST_INDEXED
            or _may_have_card(b, name, name_end)
            or not _is_new(b, span_id, seen, mask, state[4])
        ):
            return REFUSED
        first_ns, last_ns = min(first_ns, start_ns), max(last_ns, start_ns)
        if error_service < 0 and origin_end - origin == 8 and _is_same(b, span_id, 8, b, origin):
            error_service, error_service_end = service, service_end
        if o + ROW_BYTES + JSON_GROWTH * (at - warnings) + at - span_at > out.size:
            return REFUSED
        written = np.int64(-1)
        is_error = status == _STATUS_ERROR
        if not is_error or failed < errors.shape[0]:
            w = _put(out, o, np.int64(_SPAN_FIELDS), 2)
            w = _put_int8(out, w, start_ns // 1000 - POSTGRES_EPOCH_US)
            w = _put_int8(out, w, start_ns)
            w = _put_int8(out, w, end_ns - start_ns)
            w = _put_int8(out, w, self_time_ns)
            w = _put_int8(out, w, path_ns)
            w = _put_int8(out, w, skew_ns)
            w = _put_int8(out, w, resources[3][resource_entries[resource]])
            w = _put_int8(out, w, scopes[3][scope_entries[scope]])
            w = _put(out, w, np.int64(4), 4)
            w = _put(out, w, depth, 4)
            w = _put(out, w, np.int64(2), 4)
            w = _put(out, w, kind, 2)
            w = _put(out, w, np.int64(2), 4)
            w = _put(out, w, status, 2)
            w = _put_bytes(out, w, b, trace_id, trace_id + 16)
            w = _put_bytes(out, w, b, span_id, span_id + 8)
            w = _put_null(out, w) if gap_ns == NO_GAP else _put_int8(out, w, gap_ns)
            w = _put_bytes(out, w, b, parent, parent + 8) if parent else _put_null(out, w)
            w = _put_bytes(out, w, b, tree_parent, tree_parent + 8) if tree_parent else _put_null(out, w)
            w = _put_text(out, w, b, service, service_end)
            if w >= 0:
                w = _put_text(out, w, b, name, name_end)
            if w < 0:
                return REFUSED
            if not is_error and b[warnings] == 0x90:
                # No status message, error type and warnings; then attributes; then no events and links.
                written = _put_null(out, _put_null(out, _put_null(out, w)))
                written = _put_attributes(out, written, b, raw, at, keys, missing, state)
                if written >= 0:
                    written = _put_null(out, _put_null(out, written))
            if written < 0:
                error = errors[failed if is_error else 0]
                written = _put_detail(out, w, b, raw, at, is_error, warnings, warnings_end, keys, missing, state, error)
        if written < 0:
            if odds >= odd.shape[0]:
                return REFUSED
            odd[odds, ODD_AT], odd[odds, ODD_UNTIL], odd[odds, ODD_ROW_AT] = span_at, at, o
            odds += 1
            continue
        o = _put_bytes(out, written, b, raw, at)
        if is_error:
            error = errors[failed]
            error[ERROR_AT], error[ERROR_START_NS] = span_id, start_ns
            error[SERVICE_AT], error[SERVICE_UNTIL] = service, service_end
            error[NAME_AT], error[NAME_UNTIL] = name, name_end
            error[IS_ORIGIN] = origin_end - origin == 8 and _is_same(b, span_id, 8, b, origin)
            failed += 1
    if state[3] > unknown:
        return UNKNOWN
    at = _fields(b, at, end, f, _SPANS + 1, f.shape[0])
    first_day, last_day = min(first_ns, f[_START_NS, 0]) // DAY_NS, max(last_ns, f[_START_NS, 0]) // DAY_NS
    if at != end or f[_PART, 0] != 0 or f[_PARTS, 0] != 1 or last_day - first_day >= _MOST_DAYS:
        return REFUSED
    if error_service < 0:
        error_service = error_service_end = np.int64(0)
    summary = spans - f[_TRACE_ID, 0]
    if state[1] + ROW_BYTES + JSON_GROWTH * summary > trace_out.size:
        return REFUSED
    t = _trace_row(b, f, first_ns, last_ns, error_service, error_service_end, digests, digest_at, trace_out, state[1])
    if t < 0:
        return REFUSED
    _note_use(resources, resource_entries, resource_count, last_day)
    _note_use(scopes, scope_entries, scope_count, last_day)
    row[SPANS_START], row[SPANS_END] = state[0], o
    row[TRACE_START], row[TRACE_END] = state[1], t
    row[SPAN_COUNT] = count
    row[START_NS], row[COUNT_MILLI] = f[_START_NS, 0], f[_COUNT_MILLI, 0]
    row[FIRST_DAY], row[LAST_DAY] = first_day, last_day
    row[LINKS_AT] = f[_LINKS, 0]
    row[ODD_START], row[ODD_END] = state[2], odds
    row[ERROR_START], row[ERROR_END] = state[5], failed
    is_plain = odds == state[2] and failed == state[5]
    state[0], state[1], state[2], state[5] = o, t, odds, failed
    return PLAIN if is_plain else DONE


@entry_point
def pack(b, bounds, digests, resources, scopes, keys, out, trace_out, table, odd, errors, missing):
    """Rows of the records that ``bounds`` cut ``b`` into; how many spans are odd, how many errors, how much is unknown.

    ``table`` has a row a record; ``out`` and ``trace_out`` take the rows of spans and of traces.
    """
    fields = np.empty((len(_KINDS), 2), np.int64)
    entries = np.empty((2, MOST_SPANS), np.int64)
    seen = np.zeros((_SEEN, 2), np.int64)
    # Where out and trace_out end, how many spans are odd, how much is unknown, which record, how many spans are errors;
    # then the entries of the keys that the last attributes had, by which attribute of its span each was.
    state = np.zeros(STATE + GUESSES, np.int64)
    state[STATE:] = -1
    for number in range(bounds.size - 1):
        if state[3] == missing.shape[0]:
            table[number, STATUS] = UNKNOWN
            continue
        state[4] = number + 1
        table[number, STATUS] = _record(
            b,
            bounds[number],
            bounds[number + 1],
            digests,
            16 * number,
            resources,
            scopes,
            keys,
            out,
            trace_out,
            table[number],
            odd,
            errors,
            missing,
            (fields, entries[0], entries[1], seen),
            state,
        )
    return state[2], state[5], state[3]


# ---- the graph of services ----


@entry_point
def sum_links(b, links_at, start_ns, weights, edges, slots):
    """Calls of traces by minute, caller, callee and type, in rows of ``edges``; how many, or -1 if there are more.

    ``links_at``: where the links of each trace stand in ``b``, which ``pack`` has read. ``slots``: -1 everywhere, a
    power of two of them, more than rows.
    """
    found = 0
    mask = slots.size - 1
    for number in range(links_at.size):
        minute_ns = start_ns[number] - start_ns[number] % _MINUTE_NS
        count, at = _items(b, links_at[number], b.size)
        for _ in range(count):
            name = at + 1
            at = name
            for _k in range(3):
                _, at = _sized(b, at, b.size, True)
            size = at - name
            place = (_hash(b, name, at) + minute_ns // _MINUTE_NS) & mask
            while slots[place] >= 0:
                edge = edges[slots[place]]
                if (
                    edge[EDGE_MINUTE_NS] == minute_ns
                    and edge[EDGE_UNTIL] - edge[EDGE_AT] == size
                    and _is_same(b, name, size, b, edge[EDGE_AT])
                ):
                    break
                place = (place + 1) & mask
            if slots[place] < 0:
                if found >= edges.shape[0]:
                    return -1
                slots[place] = found
                edges[found, :] = 0
                edges[found, EDGE_AT], edges[found, EDGE_UNTIL] = name, at
                edges[found, EDGE_MINUTE_NS] = minute_ns
                found += 1
            edge = edges[slots[place]]
            calls, at = _integer(b, at, b.size)
            errors, at = _integer(b, at, b.size)
            edge[EDGE_CALLS] += calls
            edge[EDGE_CALLS + 1] += errors
            edge[EDGE_CALLS + 2] += weights[number] * calls
            edge[EDGE_CALLS + 3] += weights[number] * errors
            for k in range(4, 7):
                value, at = _integer(b, at, b.size)
                edge[EDGE_CALLS + k] += value
    return found
