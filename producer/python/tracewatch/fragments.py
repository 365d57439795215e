"""Encoded attributes, kept: most pairs of key and value come again with the next span.

A span's methods, routes, hosts and status codes are few, its paths and ids are
many. The first are looked up whole; of the second only the value is encoded,
behind a head that is known by its length.
"""

from collections.abc import Mapping
from typing import Any, Final

from tracewatch.protobuf import any_value, cut, delimited, text, utf8, varint
from tracewatch.redaction import MASK, Redaction

# Longer fragments are seldom seen twice: caching them would only hold memory.
_CACHED_FRAGMENT_BYTES: Final = 200
# A key with more values than this (a path with ids) is not worth a cache: its later values pass by it.
_CACHED_VALUES_OF_A_KEY: Final = 256
# All is forgotten at these: 16 384 fragments take 5 MB at most, and keys are few unless somebody builds them.
_CACHED_FRAGMENTS: Final = 16_384
_CACHED_KEYS: Final = 1024
# Heads of texts up to this long are kept, and their own lengths fit in two bytes.
_KEPT_HEADS: Final = 512
# Only pairs with these are kept: 1, 1.0 and True are one dictionary's key and three OTLP values.
_KEPT_TYPES: Final = frozenset((str, int))


class AttributeFragments(dict[tuple[str, Any], bytes]):
    """Encodes the attributes of one kind of message, secrets masked; ``tag`` is the attribute field's there.

    Itself the fragments that are kept, by key and value. Not for use by two threads at once.
    """

    def __init__(self, tag: bytes, redaction: Redaction) -> None:
        super().__init__()
        self._tag = tag
        self._redaction = redaction
        self._keys: dict[str, _Key] = {}

    def encoded(self, attributes: Mapping[str, Any] | None, max_text_length: int | None = None) -> bytes:
        """All pairs, each with its tag. ``max_text_length``: see SpanEncoder.span."""
        if not attributes:
            return b""
        if max_text_length is not None:
            # Masked before it is cut: half of a card number would pass.
            return b"".join(
                [self._other(key, cut(self._redaction.value(v), max_text_length)) for key, v in attributes.items()]
            )
        if len(self) >= _CACHED_FRAGMENTS or len(self._keys) >= _CACHED_KEYS:
            self.clear()
            self._keys.clear()
        # No loop of Python's: ten attributes cost a third less so, and it is the largest part of a span's encoding.
        if _KEPT_TYPES.issuperset(map(type, attributes.values())):
            return b"".join(map(self.__getitem__, attributes.items()))
        return b"".join(
            [
                self[key, value] if type(value) in _KEPT_TYPES else self._other(key, value)
                for key, value in attributes.items()
            ]
        )

    def __missing__(self, pair: tuple[str, Any]) -> bytes:
        key, value = pair
        of_key = self._keys.get(key) or self._key(key)
        if of_key.is_secret or type(value) is not str:
            fragment = self._other(key, value)
        else:
            data = utf8(value)
            if self._redaction.may_mask(data):
                data = utf8(self._redaction.text(value))
            size = len(data)
            fragment = (of_key.heads.get(size) or self._head(of_key, size)) + data
        if of_key.kept < _CACHED_VALUES_OF_A_KEY and len(fragment) <= _CACHED_FRAGMENT_BYTES and not of_key.is_secret:
            self[pair] = fragment
            of_key.kept += 1
        return fragment

    def _other(self, key: str, value: object) -> bytes:
        """The fragment of any pair, not kept."""
        of_key = self._keys.get(key) or self._key(key)
        shown = MASK if of_key.is_secret else self._redaction.value(value)
        return self._tag + delimited(of_key.encoded + delimited(any_value(shown)))

    def _key(self, key: str) -> "_Key":
        known = self._keys[key] = _Key(b"\x0a" + text(key) + b"\x12", self._redaction.is_secret(key))
        return known

    def _head(self, of_key: "_Key", size: int) -> bytes:
        """All that stands before a text of ``size`` bytes: tag, lengths and key."""
        inner = b"\x0a" + varint(size)
        body = of_key.encoded + varint(len(inner) + size) + inner
        head = self._tag + varint(len(body) + size) + body
        if size <= _KEPT_HEADS:
            of_key.heads[size] = head
        return head


class _Key:
    """What is known of a key: its bytes, the heads of its texts by their sizes, and how many of its values are kept."""

    __slots__ = ("encoded", "heads", "is_secret", "kept")

    def __init__(self, encoded: bytes, is_secret: bool) -> None:
        self.encoded = encoded
        self.is_secret = is_secret
        self.heads: dict[int, bytes] = {}
        self.kept = 0
