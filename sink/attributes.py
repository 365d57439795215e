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
from tracecore.otlp import AttributeValue, value_of

#: Two generations of this many key-values are kept, each of at most this size: 15 MB of ordinary ones.
CACHED_FRAGMENTS = 32_768
CACHED_FRAGMENT_BYTES = 256

# Protobuf tags of length-delimited fields: of a KeyValue its key and value, of an AnyValue a string; and of an integer.
_KEY, _VALUE, _STRING, _INTEGER = 0x0A, 0x12, 0x0A, 0x18

_json = msgspec.json.Encoder()


class FragmentCache:
    """JSON members (``"key":value``) of OTLP KeyValue messages, by their bytes."""

    def __init__(self, size: int = CACHED_FRAGMENTS) -> None:
        self._size = size
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._keys: dict[bytes, bytes] = {}

    def object_of(self, key_values: Iterable[bytes]) -> bytes:
        """A JSON object of encoded KeyValue messages; PostgreSQL lets a later key win. Raises ``PoisonRow``."""
        young, missing = self._young, self._missing
        return b"{" + b",".join([young.get(pair) or missing(pair) for pair in key_values]) + b"}"

    def object_in(self, message: bytes, at: int, tag: int) -> tuple[bytes, int]:
        """The same of the KeyValues that stand in ``message`` from ``at`` on, each under ``tag``; and where they end.

        Hot: half of what protobuf's C core and a list of its bytes take. Raises ``IndexError`` if
        a length is too large for the message, or for this short way (16 kB).
        """
        young, missing = self._young, self._missing
        fragments: list[bytes] = []
        end = len(message)
        while at < end and message[at] == tag:
            start = at + 2
            size = message[at + 1]
            if size > 127:
                start = at + 3
                high = message[at + 2]
                if high > 127:
                    raise IndexError(at)
                size += (high << 7) - 128
            at = start + size
            pair = message[start:at]
            fragments.append(young.get(pair) or missing(pair))
        if at > end:
            raise IndexError(at)
        return b"{" + b",".join(fragments) + b"}", at

    def _missing(self, key_value: bytes) -> bytes:
        fragment = self._old.get(key_value) or self._short(key_value) or _fragment(key_value)
        if len(key_value) <= CACHED_FRAGMENT_BYTES:
            if len(self._young) >= self._size:
                # In place, so that the dictionary that a loop holds stays the one that is filled.
                self._old = dict(self._young)
                self._young.clear()
            self._young[key_value] = fragment
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
