"""What a trace adds to sums over many traces: the graph of services, and the groups of errors.

Sums are kept exact by adding, for a trace that is replaced, what it adds now and subtracting what it added before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from sink.rows import LONGEST_INDEXED, ErrorSpan, storable
from tracecore.closed_trace import ServiceLink

KeyT = TypeVar("KeyT", "EdgeKey", "ErrorKey")
SumsT = TypeVar("SumsT", "EdgeSums", "ErrorSums")

MINUTE_NS = 60 * 1_000_000_000


class EdgeKey(NamedTuple):
    """A minute of an edge of the graph."""

    start_ns: int
    caller: str
    callee: str
    callee_type: str


class EdgeSums(NamedTuple):
    """What an edge counted in a minute; as columns of ``service_dependencies``."""

    calls: int
    errors: int
    calls_milli: int
    errors_milli: int
    duration_ns: int
    gap_ns: int
    gap_calls: int


class ErrorKey(NamedTuple):
    """A minute of a group of errors."""

    group_id: str
    start_ns: int


class ErrorSums(NamedTuple):
    """What a group counted in a minute."""

    errors: int
    origins: int


class ErrorGroup(NamedTuple):
    """A group of errors, as a row of ``error_groups``."""

    group_id: str
    service: str
    operation: str
    error_type: str
    first_seen_ns: int
    last_seen_ns: int
    message: str
    last_trace_id: bytes


@dataclass(slots=True)
class Sums:
    """Sums of a batch; what was taken away counts negative."""

    edges: dict[EdgeKey, EdgeSums] = field(default_factory=dict)
    errors: dict[ErrorKey, ErrorSums] = field(default_factory=dict)
    groups: dict[str, ErrorGroup] = field(default_factory=dict)

    def count_links(self, links: Iterable[ServiceLink], start_ns: int, count_milli: int, sign: int = 1) -> None:
        """Add the calls of a trace that began at ``start_ns`` and stands for ``count_milli`` thousandths."""
        minute = start_ns - start_ns % MINUTE_NS
        edges, weight = self.edges, sign * count_milli
        # Hot, once a link of every trace: tuples are unpacked, and rows are built without looking their fields up.
        for caller, callee, callee_type, calls, errors, duration_ns, gap_ns, gap_calls in links:
            key = EdgeKey(minute, _name(caller), _name(callee), _name(callee_type))
            old = edges.get(key, _NO_CALLS)
            edges[key] = EdgeSums(
                old[0] + sign * calls,
                old[1] + sign * errors,
                old[2] + weight * calls,
                old[3] + weight * errors,
                old[4] + sign * duration_ns,
                old[5] + sign * gap_ns,
                old[6] + sign * gap_calls,
            )

    def add_edges(self, edges: Mapping[EdgeKey, EdgeSums]) -> None:
        """Add sums that were made of links already."""
        for key, sums in edges.items():
            old = self.edges.get(key)
            self.edges[key] = EdgeSums(*map(sum, zip(old, sums, strict=True))) if old else sums

    def count_errors(self, spans: Sequence[ErrorSpan], trace_id: bytes, sign: int = 1) -> None:
        """Add the error spans of a trace. A group itself, once seen, is not taken away."""
        for span in spans:
            group_id = error_group_id(span.service, span.operation, span.error_type)
            key = ErrorKey(group_id, span.start_ns - span.start_ns % MINUTE_NS)
            old = self.errors.get(key) or _NO_ERRORS
            self.errors[key] = ErrorSums(old.errors + sign, old.origins + sign * span.is_origin)
            if sign > 0:
                self._see(group_id, span, trace_id)

    def _see(self, group_id: str, span: ErrorSpan, trace_id: bytes) -> None:
        old = self.groups.get(group_id)
        first_ns = min(old.first_seen_ns, span.start_ns) if old else span.start_ns
        # The newest says the message; of two at one time, the greater trace id: any order gives the same.
        if old and (old.last_seen_ns, old.last_trace_id) >= (span.start_ns, trace_id):
            self.groups[group_id] = old._replace(first_seen_ns=first_ns)
            return
        self.groups[group_id] = ErrorGroup(
            group_id, span.service, span.operation, span.error_type, first_ns, span.start_ns, span.message, trace_id
        )


@lru_cache(maxsize=4096)
def error_group_id(service: str, operation: str, error_type: str) -> str:
    """16 hex digits that name a group of errors."""
    said = "\xff".join((service, operation, error_type)).encode("utf-8", "replace")
    return blake2b(said, digest_size=8).hexdigest()


def changed(sums: Mapping[KeyT, SumsT]) -> list[tuple[KeyT, SumsT]]:
    """Keys and sums in the order of the keys, without those that did not change.

    The order is a law: two sinks that lock the same rows in it wait for each other, and never both.
    """
    return [(key, values) for key, values in sorted(sums.items()) if any(values)]


_NO_CALLS = EdgeSums(0, 0, 0, 0, 0, 0, 0)
_NO_ERRORS = ErrorSums(0, 0)


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    return storable(name)[:LONGEST_INDEXED]
