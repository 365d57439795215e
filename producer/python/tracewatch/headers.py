"""Trace context as it stands in headers: parsing and writing, nothing else.

Parsers return None for what their specification calls invalid, and never raise
for any string. tests/vectors/headers.json holds their laws for every language.

Sources: W3C Trace Context level 2 (traceparent, tracestate), OpenZipkin
b3-propagation, and the ``X-Trace-ID`` / ``X-Span-ID`` pair of this system's
users' guide.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.trace import TraceState

SAMPLED = 0x01

_MAX_TRACESTATE_MEMBERS = 32
# The specification asks for at least 512; headers are bounded by servers at 8 to 16 KiB anyway.
_MAX_TRACESTATE_LENGTH = 8192
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACESTATE_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}")
_TRACESTATE_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_HEX = re.compile(r"[0-9a-f]+")
_B3_SAMPLED = {"1": SAMPLED, "d": SAMPLED, "true": SAMPLED, "0": 0, "false": 0}


class Parent(NamedTuple):
    """The caller's span. ``span_id`` 0: the trace is named, the span is not. ``flags``: W3C trace flags."""

    trace_id: int
    span_id: int
    flags: int


class HeaderTraceState(TraceState):
    """A tracestate with level 2's keys (a digit may come first, ``@`` may stand anywhere after).

    OpenTelemetry's own class refuses them and would drop other vendors' state.
    """

    @classmethod
    def of(cls, members: Mapping[str, str]) -> "HeaderTraceState":
        """Members that are valid already, in header order."""
        state = cls()
        state._dict = dict(members)
        return state

    def add(self, key: str, value: str) -> TraceState:
        """Put a new member first; unchanged if it exists, is invalid or would be the 33rd."""
        return self if key in self._dict else self.update(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """Put a member first, replacing its old value; unchanged if invalid or it would be the 33rd."""
        if not (_TRACESTATE_KEY.fullmatch(key) and _TRACESTATE_VALUE.fullmatch(value)):
            return self
        others = {name: old for name, old in self._dict.items() if name != key}
        if len(others) >= _MAX_TRACESTATE_MEMBERS:
            return self
        return HeaderTraceState.of({key: value, **others})

    def delete(self, key: str) -> TraceState:
        """Without this member."""
        return HeaderTraceState.of({name: value for name, value in self._dict.items() if name != key})


def parse_traceparent(value: str) -> Parent | None:
    """The one traceparent header. Versions above 00 may carry more after a dash."""
    match = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    parent = Parent(int(trace_id, 16), int(span_id, 16), int(flags, 16))
    return parent if parent.trace_id and parent.span_id else None


def parse_tracestate(values: Sequence[str]) -> TraceState | None:
    """All tracestate headers in order, as one list. None if a member is invalid or a limit is passed."""
    members: dict[str, str] = {}
    if sum(map(len, values)) > _MAX_TRACESTATE_LENGTH:
        return None
    for value in values:
        for member in value.split(","):
            member = member.strip(" \t")
            if not member:
                continue
            key, _, text = member.partition("=")
            if not (_TRACESTATE_KEY.fullmatch(key) and _TRACESTATE_VALUE.fullmatch(text)):
                return None
            # Of a repeated key the first counts: the list begins with the latest hop.
            members.setdefault(key, text)
    if len(members) > _MAX_TRACESTATE_MEMBERS:
        return None
    return HeaderTraceState.of(members) if members else None


def parse_b3_single(value: str) -> Parent | None:
    """``b3: {trace id}-{span id}[-{sampling}[-{parent span id}]]``; a deferred decision counts as sampled."""
    parts = value.strip(" \t").lower().split("-")
    if not 2 <= len(parts) <= 4:
        return None
    if len(parts) == 4 and _span_id(parts[3]) is None:
        return None
    flags = _B3_SAMPLED.get(parts[2]) if len(parts) > 2 else SAMPLED
    return None if flags is None else _parent(parts[0], parts[1], flags)


def parse_b3_multiple(trace_id: str, span_id: str, sampled: str | None, flags: str | None) -> Parent | None:
    """``X-B3-TraceId``, ``-SpanId``, ``-Sampled`` (absent: sampled) and ``-Flags`` (1, debug: sampled)."""
    decision = SAMPLED if flags == "1" or sampled is None else _B3_SAMPLED.get(sampled.strip(" \t").lower(), SAMPLED)
    return _parent(trace_id.strip(" \t").lower(), span_id.strip(" \t").lower(), decision)


def parse_x_ids(trace_id: str, span_id: str | None) -> Parent | None:
    """``X-Trace-ID`` and ``X-Span-ID``: hex of 16 or 32 digits, or UUIDs, in any case; always sampled.

    A span id of 32 digits keeps its last 16. Without a valid span id the trace is
    joined with no parent span.
    """
    trace_hex = _unhyphened(trace_id)
    if len(trace_hex) not in (16, 32) or not _HEX.fullmatch(trace_hex) or not int(trace_hex, 16):
        return None
    span_hex = _unhyphened(span_id or "")
    if len(span_hex) not in (16, 32) or not _HEX.fullmatch(span_hex):
        return Parent(int(trace_hex, 16), 0, SAMPLED)
    return Parent(int(trace_hex, 16), int(span_hex[-16:], 16), SAMPLED)


def traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """The header of version 00."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


def _parent(trace_id: str, span_id: str, flags: int) -> Parent | None:
    if len(trace_id) not in (16, 32) or not _HEX.fullmatch(trace_id):
        return None
    span = _span_id(span_id)
    trace = int(trace_id, 16)
    return Parent(trace, span, flags) if trace and span else None


def _span_id(text: str) -> int | None:
    return int(text, 16) if len(text) == 16 and _HEX.fullmatch(text) else None


def _unhyphened(text: str) -> str:
    text = text.strip(" \t").lower()
    if len(text) == 36 and [text[i] for i in (8, 13, 18, 23)] == ["-"] * 4:
        return text.replace("-", "")
    return text
