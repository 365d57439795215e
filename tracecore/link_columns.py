"""Links of many traces at once, compiled: what ``dependency_links`` finds, for traces that need no repair.

That module is the reference; the tests hold both equal. Who is on the other side of a call of which only one side
told was read from the spans' raw bytes before. Compiling is numba's, as in ``forest``.
"""

import threading
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tracecore.analysed import AnalysedSpans
from tracecore.closed_trace import NO_GAP, ServiceLink
from tracecore.compiling import uncounted
from tracecore.dependency_links import brokers_by_link
from tracecore.packed import Packed
from tracecore.packing import LinkValues
from tracecore.peers import Peer

#: Types of callees, sorted: a type's number is its place.
TYPES = ("database", "external", "messaging", "service")
_EXTERNAL, _MESSAGING, _SERVICE = map(TYPES.index, ("external", "messaging", "service"))
_UNSPECIFIED, _SERVER, _CLIENT, _PRODUCER, _CONSUMER = 0, 2, 3, 4, 5
#: A trace whose calls last longer, all together, is left to integers without bounds.
_MAX_TOTAL_NS = float(1 << 62)

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Links:
    """Links of many traces, each trace's sorted as ``dependency_links`` sorts them, and the names of their numbers."""

    def __init__(self, values: LinkValues, names: list[str]) -> None:
        self.values = values
        self.names = names

    def made(self, trace: int) -> tuple[ServiceLink, ...]:
        """The links of a trace; who looks at those of one looks at those of all, so they are made together."""
        first, links = self._made
        return tuple(links[first[trace] : first[trace + 1]])

    @cached_property
    def _made(self) -> tuple[list[int], list[ServiceLink]]:
        first, callers, callees, types, *sums = (column.tolist() for column in self.values)
        name = self.names.__getitem__
        columns = map(name, callers), map(name, callees), map(TYPES.__getitem__, types), *sums
        return first, list(map(ServiceLink, *columns))


class PackedLinks(Packed[Links, ServiceLink]):
    """The links of a trace."""

    __slots__ = ()

    def _make(self) -> tuple[ServiceLink, ...]:
        return self.source.made(self.trace)


class _Spans(NamedTuple):
    """Spans in the order of their trees. Peers are numbers of names (-1: none named, or none asked)."""

    first: Array
    needs_repair: Array
    tells: Array
    kinds: Array
    parents: Array
    above: Array
    starts: Array
    ends: Array
    failed: Array
    gaps: Array
    resources: Array
    services: Array
    #: By number of a service, false for one that did not say its name.
    is_known: Array
    peers: Array
    peer_types: Array
    peer_receives: Array


class _Calls(NamedTuple):
    """Calls that were told of, in the order of their traces; columns as of ``LinkValues``."""

    traces: Array
    callers: Array
    callees: Array
    types: Array
    errors: Array
    durations: Array
    gaps: Array


def links_of(analysed: AnalysedSpans) -> Links:
    """The links of all traces. One whose times are too long to be added up needs repair from now on. O(n log n)."""
    names = {name: number for number, name in enumerate(analysed.service_names)}
    count = len(analysed.kinds)
    spans = _Spans(
        analysed.first, analysed.needs_repair, analysed.tells, analysed.kinds, analysed.parents, analysed.above,
        analysed.starts, analysed.ends, analysed.failed, analysed.gaps, analysed.resources, analysed.services,
        analysed.is_known, np.full(count, -1, np.int64), np.zeros(count, np.int64), np.zeros(count, np.bool_),
    )  # fmt: skip
    _ask(analysed, spans, names)
    room = 2 * int(np.count_nonzero(spans.tells))
    calls = _Calls(*(np.zeros(room, np.int64) for _ in _Calls._fields))
    told = _tell(spans, calls)
    return Links(_summed(_Calls(*(column[:told] for column in calls)), list(names), len(spans.first) - 1), list(names))


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    spans = _Spans(
        np.zeros(1, np.int64), flags, flags, none, none, none, none, none, flags, none, none, none, flags, none, none,
        flags,
    )  # fmt: skip
    _tell(spans, _Calls(*[none] * len(_Calls._fields)))
    _warm.set()


def _ask(analysed: AnalysedSpans, spans: _Spans, names: dict[str, int]) -> None:
    """Fill in the peers of those spans whose peers matter."""
    of, peers = analysed.peers
    is_server = spans.kinds == _SERVER
    numbers, types, receive = (
        np.array(values, np.int64)
        for values in (
            [names.setdefault(peer.name, len(names)) for peer in peers],
            [TYPES.index(peer.type) for peer in peers],
            [peer.receives for peer in peers],
        )
    )
    named = np.nonzero(of >= 0)[0]
    spans.peers[named] = numbers[of[named]]
    spans.peer_types[named], spans.peer_receives[named] = types[of[named]], receive[of[named]]
    # A server's caller is a service, or nobody.
    spans.peers[is_server & (spans.peer_types != _SERVICE)] = -1
    brokers: dict[int, dict[int, Peer]] = {}
    for i in np.nonzero((spans.kinds == _CONSUMER) & spans.tells & (of < 0))[0].tolist():
        trace = int(np.searchsorted(spans.first, i, "right")) - 1
        low, high = int(spans.first[trace]), int(spans.first[trace + 1])
        if trace not in brokers:
            has_producer = bool((spans.kinds[low:high] == _PRODUCER).any()) and not spans.needs_repair[trace]
            brokers[trace] = brokers_by_link(analysed.spans[low:high]) if has_producer else {}
        if (peer := brokers[trace].get(i - low)) is not None:
            spans.peers[i] = names.setdefault(peer.name, len(names))
            spans.peer_types[i], spans.peer_receives[i] = TYPES.index(peer.type), peer.receives


def _summed(calls: _Calls, names: list[str], traces: int) -> LinkValues:
    rank = np.zeros(len(names), np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    pairs = (calls.traces * len(names) + rank[calls.callers]) * len(names) + rank[calls.callees]
    keys = pairs * len(TYPES) + calls.types
    order = np.argsort(keys, kind="stable")
    begins = np.nonzero(np.diff(keys[order], prepend=-1))[0]
    firsts = order[begins]
    has_gap = calls.gaps != NO_GAP

    def sums(column: Array) -> Array:
        return np.add.reduceat(column[order], begins, dtype=np.int64) if len(begins) else column

    return LinkValues(
        first=np.searchsorted(calls.traces[firsts], np.arange(traces + 1)),
        callers=calls.callers[firsts],
        callees=calls.callees[firsts],
        types=calls.types[firsts],
        calls=np.diff(begins, append=len(order)),
        errors=sums(calls.errors),
        durations=sums(calls.durations),
        gaps=sums(np.where(has_gap, calls.gaps, 0)),
        gap_calls=sums(has_gap.astype(np.int64)),
    )


@njit(cache=True, nogil=True)
def _tell(spans, calls):
    """What ``dependency_links.links_told`` adds up, call by call; returns how many calls there are."""
    service_trace = np.full(len(spans.is_known), -1, np.int64)
    at = 0
    for t in range(len(spans.needs_repair)):
        if spans.needs_repair[t]:
            continue
        began, total = at, 0.0
        for i in range(spans.first[t], spans.first[t + 1]):
            service_trace[spans.services[i]] = t
        for i in range(spans.first[t], spans.first[t + 1]):
            if not spans.tells[i]:
                continue
            kind, above, peer = spans.kinds[i], spans.above[i], spans.peers[i]
            service = _known(spans, i)
            above_service = _known(spans, above) if above >= 0 else -1
            caller, callee, callee_type = -1, -1, _SERVICE
            if kind == _SERVER:
                if above >= 0 and spans.kinds[above] == _SERVER and spans.resources[above] == spans.resources[i]:
                    continue
                caller, callee = (above_service if above_service >= 0 else peer), service
            else:
                if kind == _UNSPECIFIED:
                    if service < 0 or peer < 0:
                        continue
                    kind = _CLIENT
                if peer >= 0 and (kind == _CONSUMER or (kind == _CLIENT and spans.peer_receives[i])):
                    caller, callee = peer, service
                elif peer >= 0:
                    caller, callee = service, peer
                    callee_type = _MESSAGING if kind == _PRODUCER else spans.peer_types[i]
                else:
                    caller = service
                if kind in (_PRODUCER, _CONSUMER) and (caller < 0 or callee < 0):
                    continue
            duration, failed = spans.ends[i] - spans.starts[i], spans.failed[i]
            if above_service >= 0:
                if kind == _CLIENT and service >= 0 and service != above_service:
                    at = _add(calls, at, t, above_service, service, _SERVICE, False, duration, NO_GAP)
                    total += duration
                if caller < 0:
                    caller = above_service
                if kind == _SERVER and above == spans.parents[i] and spans.kinds[above] == _CLIENT:
                    failed = failed or spans.failed[above]
                    duration = spans.ends[above] - spans.starts[above]
            if caller >= 0 and callee >= 0:
                if callee_type == _EXTERNAL and callee < len(service_trace) and service_trace[callee] == t:
                    callee_type = _SERVICE
                at = _add(calls, at, t, caller, callee, callee_type, failed, duration, spans.gaps[i])
                total += max(duration, spans.gaps[i])
            if total > _MAX_TOTAL_NS:
                spans.needs_repair[t] = True
                at = began
                break
    return at


@uncounted
def _known(spans, i):
    return spans.services[i] if spans.is_known[spans.services[i]] else -1


@uncounted
def _add(calls, at, t, caller, callee, callee_type, failed, duration, gap):
    calls.traces[at], calls.callers[at], calls.callees[at], calls.types[at] = t, caller, callee, callee_type
    calls.errors[at], calls.durations[at], calls.gaps[at] = failed, duration, gap
    return at + 1
