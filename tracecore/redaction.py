"""What must not be stored in the clear: values of secret keys, and secrets inside other values, of OTLP's messages.

The instrumentation masks before a span leaves its service; this is for producers of other kinds. Both follow
tests/vectors/redaction.json: the headers that log a person in, card numbers (Luhn-checked), and what settings add.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

MASK: Final = "[redacted]"

#: The end of a key, after its last dot: http.request.header.cookie. Case and ``_`` for ``-`` do not matter.
SECRET_KEYS: Final = (
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "password", "passwd",
    "secret", "client-secret", "access-token", "refresh-token",
)  # fmt: skip

# Digits, perhaps in groups, that are no part of a longer number, a decimal or an id in hex.
_CARD: Final = re.compile(r"(?<![0-9A-Za-z.])(?<!\d[ -])[2-6](?:[ -]?\d){13,18}(?![0-9A-Za-z])(?![ .-]\d)", re.ASCII)
_SHORTEST_CARD: Final = 14
_SMALLEST_CARD: Final = 10**13
#: Whether bytes may hold a card number at all, as text or behind the tag of an integer of seven to ten bytes.
_MAYBE_CARD: Final = re.compile(rb"[2-6](?:[ -]?\d){13}|\x18[\x80-\xff]{6}")
# By the first digits: Mastercard, Diners, American Express, JCB, Visa, Discover and Maestro.
_BRANDS: Final = re.compile(r"(?:2[2-7]|30|3[4-9]|4|5[0-8]|6)\d+", re.ASCII)
_SEPARATORS: Final = str.maketrans("", "", " -")
#: Sums of a doubled digit's digits, by Luhn.
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_REMEMBERED_KEYS: Final = 8192
#: Protobuf's tag of a KeyValue's key, the largest length of one byte, an AnyValue's tags of a list and of a map.
_KEY_TAG, _ONE_BYTE = 0x0A, 127
_HOLDERS: Final = (0x2A, 0x32)
#: An integer of so many digits: tag and seven bytes.
_SMALLEST_CARD_BYTES: Final = 8


class Redaction:
    """Masks what is secret. Every ``masked_*`` gives the same object back where there is nothing to mask."""

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = (), defaults: bool = True) -> None:
        """``keys`` and ``patterns`` (regular expressions) come on top of the defaults. Raises ``re.error``."""
        named = {_normal(key) for key in (*keys, *(SECRET_KEYS if defaults else ()))}
        self._keys = frozenset(key for key in named if key)
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._cards = defaults
        self._known: dict[bytes, bool] = {}

    @property
    def has_patterns(self) -> bool:
        """Whether any text at all may be masked, by a pattern of the settings."""
        return bool(self._patterns)

    def touches(self, key_value: bytes) -> bool:
        """Whether something in an encoded KeyValue is to be masked. Costs little where it says no: asked often."""
        try:
            end = key_value[1] + 2
            if key_value[0] == _KEY_TAG and end <= _ONE_BYTE + 2:
                key = key_value[2:end]
                secret = self._known.get(key)
                if secret is None:
                    secret = self._remember(key)
                value = end + 2
                while key_value[value - 1] > _ONE_BYTE:
                    value += 1
                if not secret and not self._patterns and key_value[value] not in _HOLDERS:
                    if not self._cards or len(key_value) - value < _SMALLEST_CARD_BYTES:
                        return False
                    if not _MAYBE_CARD.search(key_value, value):
                        return False
        except IndexError:
            pass
        try:
            pair = KeyValue.FromString(key_value)
        except DecodeError:
            return False
        return self._mask_pairs([pair])

    def is_secret(self, key: str) -> bool:
        """Whether every value of ``key`` is to be masked. A configured key with a dot means the whole key."""
        normal = _normal(key)
        return normal in self._keys or normal.rpartition(".")[2] in self._keys

    def text(self, text: str) -> str:
        """``text`` with the secrets in it masked."""
        if self._cards and len(text) >= _SHORTEST_CARD:
            text = _CARD.sub(_masked_card, text)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def masked_span(self, raw: bytes) -> bytes:
        """A Span message: attributes, events, links, name and status message."""
        try:
            span = SpanMessage.FromString(raw)
        except DecodeError:
            return raw
        touched = self._mask_pairs(span.attributes)
        for link in span.links:
            touched |= self._mask_pairs(link.attributes)
        for event in span.events:
            touched |= self._mask_pairs(event.attributes)
            name = self.text(event.name)
            if name != event.name:
                event.name, touched = name, True
        name = self.text(span.name)
        if name != span.name:
            span.name, touched = name, True
        message = self.text(span.status.message)
        if message != span.status.message:
            span.status.message, touched = message, True
        return span.SerializeToString() if touched else raw

    def masked_resource(self, raw: bytes) -> bytes:
        """A Resource message."""
        return self._masked(ResourceMessage, raw)

    def masked_scope(self, raw: bytes) -> bytes:
        """An InstrumentationScope message."""
        return self._masked(InstrumentationScope, raw)

    def _masked(self, kind: Any, raw: bytes) -> bytes:
        try:
            message = kind.FromString(raw)
        except DecodeError:
            return raw
        return bytes(message.SerializeToString()) if self._mask_pairs(message.attributes) else raw

    def _mask_pairs(self, pairs: Iterable[KeyValue]) -> bool:
        """Mask in place; whether anything was."""
        touched = False
        for pair in pairs:
            if not self.is_secret(pair.key):
                touched |= self._mask_value(pair.value)
            elif pair.value.string_value != MASK:
                pair.value.Clear()
                pair.value.string_value = MASK
                touched = True
        return touched

    def _mask_value(self, value: AnyValue) -> bool:
        which = value.WhichOneof("value")
        if which == "string_value":
            text = self.text(value.string_value)
            if text == value.string_value:
                return False
            value.string_value = text
            return True
        if which == "int_value" and self._cards and value.int_value >= _SMALLEST_CARD:
            if not _is_card(str(value.int_value)):
                return False
            value.string_value = MASK
            return True
        if which == "array_value":
            # Each of them, not until the first.
            return sum([self._mask_value(item) for item in value.array_value.values]) > 0
        return which == "kvlist_value" and self._mask_pairs(value.kvlist_value.values)

    def _remember(self, key: bytes) -> bool:
        if len(self._known) >= _REMEMBERED_KEYS:
            self._known.clear()
        secret = self._known[key] = self.is_secret(key.decode("utf-8", "replace"))
        return secret


def _normal(key: str) -> str:
    return key.strip().lower().replace("_", "-")


def _masked_card(found: re.Match[str]) -> str:
    return MASK if _is_card(found[0].translate(_SEPARATORS)) else found[0]


def _is_card(digits: str) -> bool:
    """Whether a number may be a payment card's: its length, its first digits, its check digit."""
    if not _SHORTEST_CARD <= len(digits) <= 19 or not _BRANDS.fullmatch(digits):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


#: The built-in keys and card numbers, and nothing else.
BUILT_IN: Final = Redaction()
