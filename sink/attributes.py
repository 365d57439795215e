"""OTLP attributes as JSON, cheaply: key-values repeat, so each is decoded and encoded once and then looked up.

A span's ten attributes cost ten dictionary look-ups, a fifth of decoding them. Bytes become base64; NaN and the
infinities become text, as protobuf's own JSON has them.
"""

import math
from base64 import b64encode
from collections.abc import Iterable

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from sink.errors import PoisonRow
from tracecore.otlp import AttributeValue, value_of

#: Two generations of this many key-values are kept, each of at most this size: 20 MB when full.
CACHED_FRAGMENTS = 32_768
CACHED_FRAGMENT_BYTES = 160

_json = msgspec.json.Encoder()


class FragmentCache:
    """JSON members (``"key":value``) of OTLP KeyValue messages, by their bytes."""

    def __init__(self, size: int = CACHED_FRAGMENTS) -> None:
        self._size = size
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def object_of(self, key_values: Iterable[bytes]) -> bytes:
        """A JSON object of encoded KeyValue messages; PostgreSQL lets a later key win. Raises ``PoisonRow``."""
        young, missing = self._young, self._missing
        return b"{" + b",".join([young.get(pair) or missing(pair) for pair in key_values]) + b"}"

    def _missing(self, key_value: bytes) -> bytes:
        fragment = self._old.get(key_value) or _fragment(key_value)
        if len(key_value) <= CACHED_FRAGMENT_BYTES:
            if len(self._young) >= self._size:
                # In place, so that the dictionary that a loop holds stays the one that is filled.
                self._old = dict(self._young)
                self._young.clear()
            self._young[key_value] = fragment
        return fragment


def json_of(value: object) -> bytes:
    """JSON of decoded attributes, events or links; raises ``PoisonRow`` for what PostgreSQL cannot hold."""
    return _json.encode(_storable(value))


def _fragment(key_value: bytes) -> bytes:
    try:
        pair = KeyValue.FromString(key_value)
        key, value = pair.key, value_of(pair.value)
    except DecodeError:
        raise PoisonRow("an attribute does not parse: invalid UTF-8, or nested too deeply") from None
    if "\0" in key:
        raise PoisonRow("the key of an attribute has a NUL character")
    return _json.encode(key) + b":" + _json.encode(_storable(value))


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
