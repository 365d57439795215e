"""OTLP attributes as JSON, cheaply: key-values repeat, so each is decoded and encoded once and then looked up.

Bytes become base64; NaN and the infinities become text, as protobuf's own JSON has them.
"""

import math
from base64 import b64encode
from collections.abc import Iterable

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from sink.errors import PoisonRow
from sink.redaction import SecretInside
from tracecore.otlp import AttributeValue, value_of
from tracecore.redaction import BUILT_IN, Redaction

#: Two generations of this many key-values are kept, each of at most this size: 15 MB of ordinary ones.
CACHED_FRAGMENTS = 32_768
CACHED_FRAGMENT_BYTES = 256

# Protobuf tags: of a Span its attributes, of a KeyValue its key and value, of an AnyValue a string and an integer.
_ATTRIBUTE = 0x4A
_KEY, _VALUE, _STRING, _INTEGER = 0x0A, 0x12, 0x0A, 0x18

_json = msgspec.json.Encoder()


class FragmentCache:
    """JSON members (``"key":value``) of OTLP KeyValue messages, by their bytes."""

    def __init__(self, redaction: Redaction = BUILT_IN, size: int = CACHED_FRAGMENTS) -> None:
        self._redaction = redaction
        self._size = size
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._keys: dict[bytes, bytes] = {}

    def object_of(self, key_values: Iterable[bytes]) -> bytes:
        """A JSON object of encoded KeyValue messages; PostgreSQL lets a later key win.

        Raises ``PoisonRow``; ``SecretInside`` if a value is to be masked first.
        """
        known, missing = self._young, self._missing
        fields = [_field(key_value) for key_value in key_values]
        return b"{" + b",".join([known.get(field) or missing(field) for field in fields]) + b"}"

    def object_in(self, span: bytes, at: int, end: int) -> bytes:
        """The same of the attributes that a Span message holds from ``at`` to ``end``, and nothing else.

        Hot: half of what protobuf's C core and a list of its bytes take. Raises ``IndexError`` if there is something
        else, or an attribute of more than 16 kB.
        """
        known, missing = self._young, self._missing
        fragments: list[bytes] = []
        keep = fragments.append
        while at < end:
            start, size = at, span[at + 1]
            if size < 128:
                at += 2 + size
            else:
                high = span[at + 2]
                if high > 127:
                    raise IndexError(at)
                at += 3 + size + (high << 7) - 128
            field = span[start:at]
            try:
                keep(known[field])
            except KeyError:
                keep(missing(field))
        if at > end:
            raise IndexError(at)
        return b"{" + b",".join(fragments) + b"}"

    def _missing(self, field: bytes) -> bytes:
        """The fragment of an attribute's field of a Span: tag, length, KeyValue."""
        if field[0] != _ATTRIBUTE:
            raise IndexError("not an attribute")
        key_value = field[2:] if field[1] < 128 else field[3:]
        fragment = self._old.get(field)
        if fragment is None:
            # What is kept was looked at: only what is new is asked about.
            if self._redaction.touches(key_value):
                raise SecretInside
            fragment = self._short(key_value) or _fragment(key_value)
        if len(field) <= CACHED_FRAGMENT_BYTES:
            if len(self._young) >= self._size:
                # In place, so that the dictionary that a loop holds stays the one that is filled.
                self._old = dict(self._young)
                self._young.clear()
            self._young[field] = fragment
        return fragment

    def _short(self, key_value: bytes) -> bytes | None:
        """The fragment of a short string or an integer, read by hand: half of the cost. None: read it otherwise."""
        try:
            key_end = key_value[1] + 2
            value = key_end + 2
            if (
                key_value[0] != _KEY
                or key_end > 129
                or key_value[key_end] != _VALUE
                or value + key_value[key_end + 1] != len(key_value)
            ):
                return None
            if key_value[value] == _STRING:
                if value + 2 + key_value[value + 1] != len(key_value):
                    return None
                text = key_value[value + 2 :]
                if 0 in text:
                    raise PoisonRow("an attribute has a NUL character")
                return self._key(key_value[2:key_end]) + _json.encode(text.decode())
            if key_value[value] == _INTEGER:
                number = shift = 0
                for byte in key_value[value + 1 :]:
                    number |= (byte & 127) << shift
                    shift += 7
                if byte > 127 or shift > 70:
                    return None
                signed = number - (1 << 64) if number >> 63 else number
                return self._key(key_value[2:key_end]) + b"%d" % signed
        except (IndexError, UnicodeDecodeError):
            pass
        return None

    def _key(self, key: bytes) -> bytes:
        known = self._keys.get(key)
        if known is None:
            if 0 in key:
                raise PoisonRow("the key of an attribute has a NUL character")
            if len(self._keys) >= self._size:
                self._keys.clear()
            known = self._keys[key] = _json.encode(key.decode()) + b":"
        return known


def json_of(value: object) -> bytes:
    """JSON of decoded attributes, events or links; raises ``PoisonRow`` for what PostgreSQL cannot hold."""
    return _json.encode(_storable(value))


def _field(key_value: bytes) -> bytes:
    """A KeyValue as it stands in a Span: below 16 kB its true form, above it a name in the cache that is never kept."""
    size = len(key_value)
    if size < 128:
        return bytes((_ATTRIBUTE, size)) + key_value
    return bytes((_ATTRIBUTE, size & 127 | 128, size >> 7 & 127)) + key_value


def _fragment(key_value: bytes) -> bytes:
    try:
        pair = KeyValue.FromString(key_value)
        key, value = pair.key, value_of(pair.value)
    except DecodeError:
        raise PoisonRow("an attribute does not parse: invalid UTF-8, or nested too deeply") from None
    return _json.encode(_storable_key(key)) + b":" + _json.encode(_storable(value))


def _storable(value: object) -> AttributeValue:
    if isinstance(value, str):
        if "\0" in value:
            raise PoisonRow("an attribute has a NUL character")
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable_key(key): _storable(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int):
        return value
    raise TypeError(f"not an attribute value: {type(value).__name__}")


def _storable_key(key: object) -> str:
    if not isinstance(key, str) or "\0" in key:
        raise PoisonRow("the key of an attribute has a NUL character")
    return key
