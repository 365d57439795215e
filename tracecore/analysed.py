"""Traces that were analysed together, as columns, for who counts and judges many spans at once."""

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tracecore.analysis import new_segment, traced_spans
from tracecore.closed_trace import PathSegment, TracedSpan
from tracecore.otlp import UNKNOWN_SERVICE
from tracecore.packed import Packed
from tracecore.span import Span, SpanKind
from tracecore.span_columns import COUNT_MILLI, NAME, RAW_AT, RAW_END, STATUS, SpanColumns

try:
    from tracecore import named_peers, packing
except (ImportError, RuntimeError):  # no numba: then nothing is analysed together
    named_peers = packing = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from tracecore.forest import Columns, Forest
    from tracecore.named_peers import NamedPeers
    from tracecore.packing import LinkValues, PackedTraces, RawBytes, Shared, TraceValues

_SERVER, _CLIENT, _PRODUCER, _CONSUMER = map(
    int, (SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER)
)

#: Where values are spread wider than this, they are sooner sorted than looked up.
_SLOTS_A_VALUE = 4

Array = np.ndarray[Any, Any]


class Operations(NamedTuple):
    """By span the number of its operation, and what the numbers mean: service, name and kind."""

    of: Array
    keys: list[tuple[str, str, int]]


class Calls(NamedTuple):
    """By span the number of the call whose far side it tells of (-1: none): caller, callee and operation.

    A server's span tells of its client's call; a client's span that nobody answered, of the peer that it names.
    ``clients`` has the client's span.
    """

    of: Array
    clients: Array
    keys: list[tuple[str, str, str]]


class AnalysedSpans:
    """The spans of many traces in the order of their trees; those of trace ``t`` are ``first[t]`` to ``first[t + 1]``.

    Columns have a value a span: ``parents`` are positions here (-1: none), and so are ``above``, as of ``Forest``;
    ``services``, ``names``, ``resources`` and ``scopes`` are numbers, whose texts are in ``service_names`` and
    ``span_names``; nanoseconds are as of ``TracedSpan``. A trace that ``needs_repair`` has no meaning here: it was
    analysed alone.
    """

    def __init__(self, given: SpanColumns, columns: "Columns", forest: "Forest", service_names: list[str]) -> None:
        """``given`` and ``columns`` in the order in which they were analysed: ``order`` has those places."""
        self._given, self._columns, self._forest = given, columns, forest
        self.order = order = forest.order
        self.first = columns.first
        self.needs_repair = forest.needs_repair
        base = np.repeat(self.first[:-1], np.diff(self.first))
        self.parents = np.where(forest.parents < 0, -1, forest.parents + base)
        self.above = np.where(forest.above < 0, -1, forest.above + base)
        self.tells = forest.tells
        self.services = columns.services[order]
        self.resources = columns.resources[order]
        self.scopes = columns.scopes[order]
        self.names = given.table[NAME][order]
        self.kinds = columns.kinds[order]
        self.failed = columns.failed[order]
        self.starts = columns.starts[order]
        self.ends = columns.ends[order]
        self.self_times = forest.self_times
        self.gaps = forest.gaps
        self.counts_milli = given.table[COUNT_MILLI][order]
        self.service_names = service_names
        self.span_names = given.names

    @cached_property
    def spans(self) -> Sequence[Span]:
        """The spans, as columns: one is made when it is looked at."""
        return self._given.taken(self.order)

    @cached_property
    def raws(self) -> "RawBytes":
        """The bytes of spans, in the order in which they were analysed."""
        given = self._given
        return packing.RawBytes(np.frombuffer(given.buffer, np.uint8), given.table[RAW_AT], given.table[RAW_END])

    @cached_property
    def operations(self) -> Operations:
        """The operations of all spans."""
        kinds, kind_of = _distinct(self.kinds)
        of, services, names, kind_of = _combined(self.services, self.names, kind_of)
        keys = [
            (self.service_names[service], self.span_names[name], kind)
            for service, name, kind in zip(services.tolist(), names.tolist(), kinds[kind_of].tolist(), strict=True)
        ]
        return Operations(of, keys)

    @cached_property
    def is_known(self) -> Array:
        """By number of a service, false for one that did not say its name."""
        return np.array([name not in ("", UNKNOWN_SERVICE) for name in self.service_names], np.bool_)

    @cached_property
    def peers(self) -> "NamedPeers":
        """The peers that spans name, of those whose far side may have sent no span; others are not asked."""
        is_called = (self.above >= 0) & self.is_known[self.services[self.above]]
        matters = self.tells & ~((self.kinds == _SERVER) & is_called) | self.is_calling & ~self._has_children
        asked = np.nonzero(matters & ~np.repeat(self.needs_repair, np.diff(self.first)))[0]
        found, peers = named_peers.named_peers(self.order[asked], self.raws)
        of = np.full(len(self.kinds), -1, np.int64)
        of[asked] = found
        return named_peers.NamedPeers(of, peers)

    @cached_property
    def _has_children(self) -> Array:
        has_children = np.zeros(len(self.parents), np.bool_)
        has_children[self.parents[self.parents >= 0]] = True
        return has_children

    @cached_property
    def is_receiving(self) -> Array:
        """True for spans of servers and consumers."""
        is_receiving: Array = (self.kinds == _SERVER) | (self.kinds == _CONSUMER)
        return is_receiving

    @cached_property
    def is_calling(self) -> Array:
        """True for spans of clients and producers."""
        is_calling: Array = (self.kinds == _CLIENT) | (self.kinds == _PRODUCER)
        return is_calling

    @cached_property
    def calls(self) -> Calls:
        """The calls that spans tell of."""
        callees = self.services.copy()
        # The last of them is looked at for want of a parent.
        clients = np.where(self.is_receiving & (self.parents >= 0) & self.is_calling[self.parents], self.parents, -1)
        number = {name: n for n, name in enumerate(self.service_names)}
        peer_of, peers = self.peers
        called_peers = np.array([number.setdefault(peer.name, len(number)) for peer in peers], np.int64)
        # The last is of those that name none.
        is_called = np.array([not peer.receives for peer in peers] + [False], np.bool_)
        unanswered = np.nonzero(self.is_calling & ~self._has_children & is_called[peer_of])[0]
        clients[unanswered], callees[unanswered] = unanswered, called_peers[peer_of[unanswered]]
        telling = np.nonzero(clients >= 0)[0]
        of = np.full(len(callees), -1, np.int64)
        of[telling], callers, called, names = _combined(
            self.services[clients[telling]], callees[telling], self.names[telling]
        )
        services = list(number)
        keys = [
            (services[caller], services[callee], self.span_names[name])
            for caller, callee, name in zip(callers.tolist(), called.tolist(), names.tolist(), strict=True)
        ]
        return Calls(of, clients, keys)

    def ids_of(self, spans: Array) -> list[bytes]:
        """The ids of spans by their positions here; of -1 an empty one."""
        ids = self._columns.span_ids[self.order[spans]].astype(">u8").view("V8").tolist()
        return [span_id if span >= 0 else b"" for span_id, span in zip(ids, spans.tolist(), strict=True)]

    def packed(self, traces: "TraceValues", links: "LinkValues", shared: "Shared", tail: bytes) -> "PackedTraces":
        """All traces as ``packing.packed_traces`` writes them."""
        forest, columns, order = self._forest, self._columns, self.order
        values = packing.SpanValues(
            first=self.first,
            order=order,
            span_ids=columns.span_ids[order],
            parent_ids=columns.parent_ids[order],
            parents=self.parents,
            depths=forest.depths,
            services=self.services,
            names=self.names,
            kinds=self.kinds,
            statuses=self._given.table[STATUS][order],
            starts=self.starts,
            ends=self.ends,
            skews=forest.skews,
            self_times=forest.self_times,
            path_shares=forest.path_shares,
            gaps=forest.gaps,
            resources=forest.local_resources,
            scopes=forest.local_scopes,
            path_first=forest.path_first,
            path_spans=forest.path_spans,
            path_starts=forest.path_starts,
            path_ends=forest.path_ends,
        )
        return packing.packed_traces(traces, values, links, self.raws, shared, tail)

    def made_spans(self, trace: int) -> tuple[TracedSpan, ...]:
        """The spans of a trace, made."""
        low, high = int(self.first[trace]), int(self.first[trace + 1])
        forest = self._forest
        spans = self.spans[low:high]
        span_ids = [span.span_id for span in spans]
        # Number -1, the last of these, is the parent of a root.
        of_parent = (*span_ids, b"").__getitem__
        return tuple(
            traced_spans(
                list(zip(*spans, strict=True)),
                span_ids=span_ids,
                tree_parent_ids=map(of_parent, forest.parents[low:high].tolist()),
                depths=forest.depths[low:high].tolist(),
                skews=forest.skews[low:high].tolist(),
                self_times=forest.self_times[low:high].tolist(),
                path_shares=forest.path_shares[low:high].tolist(),
                gaps=forest.gaps[low:high].tolist(),
                warnings=repeat(()),
                resource_of=forest.local_resources[low:high].tolist(),
                scope_of=forest.local_scopes[low:high].tolist(),
            )
        )

    def made_path(self, trace: int) -> tuple[PathSegment, ...]:
        """The critical path of a trace, made."""
        forest, root = self._forest, int(self.first[trace])
        low, high = int(forest.path_first[trace]), int(forest.path_first[trace + 1])
        span_ids = self.ids_of(root + forest.path_spans[low:high])
        starts, ends = forest.path_starts[low:high].tolist(), forest.path_ends[low:high].tolist()
        return tuple(map(new_segment, zip(span_ids, starts, ends, strict=True)))


class PackedSpans(Packed[AnalysedSpans, TracedSpan]):
    """The spans of a trace."""

    __slots__ = ()

    def _make(self) -> tuple[TracedSpan, ...]:
        return self.source.made_spans(self.trace)


class PackedPath(Packed[AnalysedSpans, PathSegment]):
    """The critical path of a trace."""

    __slots__ = ()

    def _make(self) -> tuple[PathSegment, ...]:
        return self.source.made_path(self.trace)


def _combined(first: Array, second: Array, third: Array) -> tuple[Array, Array, Array, Array]:
    """By place the number of a combination of three numbers, and the combinations by number."""
    if not len(first):
        return first, first, first, first
    seconds, thirds = int(second.max()) + 1, int(third.max()) + 1
    distinct, of = _distinct((first * seconds + second) * thirds + third)
    return of, distinct // (seconds * thirds), distinct // thirds % seconds, distinct % thirds


def _distinct(values: Array) -> tuple[Array, Array]:
    """The distinct values, sorted, and by place the number of its own among them: as of ``np.unique``."""
    size = int(values.max(initial=-1)) + 1
    if size > _SLOTS_A_VALUE * len(values) or values.min(initial=0) < 0:
        return np.unique(values, return_inverse=True)
    # Small numbers need no sorting.
    is_there = np.zeros(size, np.bool_)
    is_there[values] = True
    return np.nonzero(is_there)[0], (np.cumsum(is_there) - 1)[values]
