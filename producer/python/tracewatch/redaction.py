"""What must not leave the service in the clear: values of secret keys, and secrets inside other values.

By default the headers that log a person in, and card numbers (Luhn-checked); more keys and patterns by settings. The
sink masks once more before it stores, for producers of other kinds: tests/vectors/redaction.json keeps both in step.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tracewatch.errors import InvalidSetting

MASK: Final = "[redacted]"

#: The end of a key, after its last dot: http.request.header.cookie. Case and ``_`` for ``-`` do not matter.
SECRET_KEYS: Final = (
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "password", "passwd",
    "secret", "client-secret", "access-token", "refresh-token",
)  # fmt: skip

# Digits, perhaps in groups, that are no part of a longer number, a decimal or an id in hex.
# The first digit stands before what must not precede it: a text is searched for it at the speed of a scan.
_CARD: Final = re.compile(r"[2-6](?<![0-9A-Za-z.].)(?<!\d[ -].)(?:[ -]?\d){13,18}(?![0-9A-Za-z])(?![ .-]\d)", re.ASCII)
_SHORTEST_CARD: Final = 14
_SMALLEST_CARD: Final = 10**13
# To count digits takes half of the time of the expression, which looks at one character after another.
_IS_DIGIT: Final = bytes(0x30 <= byte <= 0x39 for byte in range(256))
# By the first digits: Mastercard, Diners, American Express, JCB, Visa, Discover and Maestro.
_BRANDS: Final = re.compile(r"(?:2[2-7]|30|3[4-9]|4|5[0-8]|6)\d+", re.ASCII)
_SEPARATORS: Final = str.maketrans("", "", " -")
#: Sums of a doubled digit's digits, by Luhn.
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


class Redaction:
    """Masks values; asked for each new one only, since encoders keep what they have seen."""

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = (), defaults: bool = True) -> None:
        """``keys`` and ``patterns`` (regular expressions) come on top of the defaults. Raises ``re.error``."""
        named = {_normal(key) for key in (*keys, *(SECRET_KEYS if defaults else ()))}
        self._keys = frozenset(key for key in named if key)
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._cards = defaults

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Redaction":
        """Read ``TRACEWATCH_REDACT_*``. Raises InvalidSetting."""
        keys = environ.get("TRACEWATCH_REDACT_KEYS", "").split(",")
        text = environ.get("TRACEWATCH_REDACT_PATTERNS") or "[]"
        defaults = (environ.get("TRACEWATCH_REDACT_DEFAULTS") or "true").lower()
        if defaults not in ("true", "false"):
            raise InvalidSetting("TRACEWATCH_REDACT_DEFAULTS", defaults, "true or false")
        try:
            patterns = json.loads(text)
            if not isinstance(patterns, list):
                raise ValueError(text)
            return cls(keys, [str(pattern) for pattern in patterns], defaults == "true")
        except (ValueError, re.error) as error:
            raise InvalidSetting(
                "TRACEWATCH_REDACT_PATTERNS", text, f"a JSON list of regular expressions ({error})"
            ) from error

    def is_secret(self, key: str) -> bool:
        """Whether every value of ``key`` is to be masked. A configured key with a dot means the whole key."""
        normal = _normal(key)
        return normal in self._keys or normal.rpartition(".")[2] in self._keys

    def value(self, value: object) -> object:
        """``value`` of a key that is not secret, its secrets masked."""
        kind = type(value)
        if kind is str:
            return self.text(value)  # type: ignore[arg-type]
        if kind is int:
            return MASK if self._cards and value >= _SMALLEST_CARD and _is_card(str(value)) else value  # type: ignore[operator]
        if isinstance(value, Mapping):
            return {key: MASK if self.is_secret(str(key)) else self.value(inner) for key, inner in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
            return [self.value(inner) for inner in value]
        return value

    def may_mask(self, data: bytes) -> bool:
        """Whether ``text`` may find a secret in a text of these UTF-8 bytes; False is certain."""
        if self._patterns:
            return True
        return self._cards and data.translate(_IS_DIGIT).count(1) >= _SHORTEST_CARD

    def text(self, text: str) -> str:
        """``text`` with the secrets in it masked."""
        if self._cards and len(text) >= _SHORTEST_CARD:
            text = _CARD.sub(_masked_card, text)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text


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
