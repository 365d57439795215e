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
_CACHED_FRAGMENT_BYTES: Final = 160
# A key with more values than this (a path with ids) is not worth a cache: its later values pass by it.
_CACHED_VALUES_OF_A_KEY: Final = 256
# All is forgotten at these: 16 384 fragments take 4 MB at most, and keys are few unless somebody builds them.
_CACHED_FRAGMENTS: Final = 16_384
_CACHED_KEYS: Final = 1024
# Heads of texts up to this long are kept, and their own lengths fit in two bytes.
_KEPT_HEADS: Final = 512


class AttributeFragments(dict[str, "_OfKey"]):
    """Encodes the attributes of one kind of message, secrets masked; ``tag`` is the attribute field's there.

    Not for use by two threads at once.
    """

    def __init__(self, tag: bytes, redaction: Redaction) -> None:
        super().__init__()
        self.tag = tag
        self.redaction = redaction
        self.kept = 0

    def encoded(self, attributes: Mapping[str, Any] | None, max_text_length: int | None = None) -> bytes:
        """All pairs, each with its tag. ``max_text_length``: see SpanEncoder.span."""
        if not attributes:
            return b""
        if max_text_length is not None:
            # Masked before it is cut: half of a card number would pass.
            return b"".join(
                self[key].other(cut(self.redaction.value(value), max_text_length)) for key, value in attributes.items()
            )
        if self.kept >= _CACHED_FRAGMENTS or len(self) >= _CACHED_KEYS:
            self.clear()
            self.kept = 0
        # BoundedAttributes locks and looks up for each item; an ended span's plain dict changes no more.
        items: Mapping[str, Any] = getattr(attributes, "_dict", attributes)
        try:
            return b"".join([self[key][value] for key, value in items.items()])
        except TypeError:
            # A list or a mapping is no dictionary's key.
            return b"".join(
                [self[k][v] if type(v) is str or type(v) is int else self[k].other(v) for k, v in items.items()]
            )

    def __missing__(self, key: str) -> "_OfKey":
        fragments = self[key] = (_OfSecretKey if self.redaction.is_secret(key) else _OfKey)(self, key)
        return fragments


class _OfKey(dict[Any, bytes]):
    """Fragments of one key by their texts; makes what it does not hold.

    Numbers are apart, because 1, 1.0 and True are one dictionary's key and three OTLP values.
    """

    __slots__ = ("_all", "_heads", "_integers", "_key")

    def __init__(self, every: AttributeFragments, key: str) -> None:
        self._all = every
        self._key = b"\x0a" + text(key) + b"\x12"
        self._heads: dict[int, bytes] = {}
        self._integers: dict[int, bytes] = {}

    def __missing__(self, value: Any) -> bytes:
        kind = type(value)
        if kind is str:
            data = utf8(self._all.redaction.text(value))
            size = len(data)
            fragment = (self._heads.get(size) or self._head(size)) + data
            if len(self) < _CACHED_VALUES_OF_A_KEY and size <= _CACHED_FRAGMENT_BYTES:
                self[value] = fragment
                self._all.kept += 1
            return fragment
        if kind is int:
            known = self._integers.get(value)
            if known is None:
                known = self.other(value)
                if len(self._integers) < _CACHED_VALUES_OF_A_KEY:
                    self._integers[value] = known
                    self._all.kept += 1
            return known
        return self.other(value)

    def other(self, value: object) -> bytes:
        """The fragment of any value, not kept."""
        return self._all.tag + delimited(self._key + delimited(any_value(self._all.redaction.value(value))))

    def _head(self, size: int) -> bytes:
        """All that stands before a text of ``size`` bytes: tag, lengths and key."""
        inner = b"\x0a" + varint(size)
        body = self._key + varint(len(inner) + size) + inner
        head = self._all.tag + varint(len(body) + size) + body
        if size <= _KEPT_HEADS:
            self._heads[size] = head
        return head


class _OfSecretKey(_OfKey):
    """Answers the mask for every value, and keeps none of them."""

    __slots__ = ()

    def __missing__(self, value: Any) -> bytes:
        return self.other(value)

    def other(self, value: object) -> bytes:
        return super().other(MASK)
