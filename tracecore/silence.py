"""A silence: alerts that match it are not told, for a time. Matchers are Alertmanager's.

Source: Prometheus Alertmanager, silences and ``pkg/labels`` (a regular expression must match the whole value; a label
that is not there counts as empty).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

MatchOperator = Literal["=", "!=", "=~", "!~"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """What one label must be."""

    name: str
    value: str
    op: MatchOperator = "="

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if the label fits. Raises ``re.error`` for an expression that ``is_valid`` refuses."""
        actual = labels.get(self.name, "")
        fits = actual == self.value if self.op in ("=", "!=") else _pattern(self.value).fullmatch(actual) is not None
        return fits is (self.op in ("=", "=~"))

    @property
    def is_valid(self) -> bool:
        """True if there is a name, and a regular expression can be read."""
        if self.op in ("=~", "!~"):
            try:
                _pattern(self.value)
            except (re.error, RecursionError, OverflowError):
                return False
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class Silence:
    """Unix nanoseconds; active from ``starts_at_ns`` until, not including, ``ends_at_ns``.

    To expire a silence is to publish it again with an earlier end; of two of one id, the later ``updated_at_ns`` holds.
    """

    silence_id: str
    matchers: tuple[Matcher, ...]
    starts_at_ns: int
    ends_at_ns: int
    created_by: str
    comment: str
    updated_at_ns: int

    def is_active(self, now_ns: int) -> bool:
        """True between its start and its end."""
        return self.starts_at_ns <= now_ns < self.ends_at_ns

    def mutes(self, labels: Mapping[str, str], now_ns: int) -> bool:
        """True if it is active and every matcher fits; a silence without matchers mutes nothing."""
        return self.is_active(now_ns) and bool(self.matchers) and all(each.matches(labels) for each in self.matchers)


@lru_cache(maxsize=1024)
def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(value)
