"""Who called whom in a trace, counted; what sends no spans itself (a database, a broker, a peer) is a node too.

Both sides of a call may tell of it, one, or none: the server's name is what it calls itself, the client's span is
asked for a name only where no span of the other side came.

Source: Zipkin, DependencyLinker, whose cases the tests hold all. Ours besides: peers are read from OpenTelemetry's
attributes; a client's span with nothing but its own service's internal spans below it still names its peer; a
consumer that names no broker has the broker of the producers that its span links name.
"""

from collections.abc import Iterable, Sequence, Set

from tracecore.closed_trace import NO_GAP, ServiceLink
from tracecore.errors import MalformedPayload
from tracecore.otlp import UNKNOWN_SERVICE, Link, span_detail
from tracecore.peers import Peer, caller_of, peer_of
from tracecore.span import Span, SpanKind, StatusCode
from tracecore.timeline import Timeline
from tracecore.tree import NO_PARENT, TraceTree

# Plain integers: comparing with an enum's member costs three times as much, for every span.
_UNSPECIFIED, _INTERNAL = int(SpanKind.UNSPECIFIED), int(SpanKind.INTERNAL)
_SERVER, _CLIENT = int(SpanKind.SERVER), int(SpanKind.CLIENT)
_PRODUCER, _CONSUMER = int(SpanKind.PRODUCER), int(SpanKind.CONSUMER)
_REMOTE = (_SERVER, _CLIENT, _PRODUCER, _CONSUMER)
_ERROR = int(StatusCode.ERROR)


def dependency_links(tree: TraceTree, timeline: Timeline, gaps: Sequence[int]) -> tuple[ServiceLink, ...]:
    """Links of one trace by caller and callee, sorted. ``gaps`` as of ``network_gaps``. O(n)."""
    spans, parents, above = tree.spans, tree.parents, _remote_ancestors(tree)
    durations_ns = [end - start for start, end in zip(timeline.starts, timeline.ends, strict=True)]
    links = _Links({span[9].service for span in spans})
    brokers: dict[int, Peer] | None = None
    for i, span in enumerate(spans):
        kind, nearest = span[4], above[i]
        if not _tells(tree, i, kind):
            continue
        service = _known(span)
        above_name = _known(spans[nearest]) if nearest != NO_PARENT else ""
        caller, callee, callee_type = "", "", ""
        if kind == _SERVER:
            if nearest != NO_PARENT and spans[nearest][4] == _SERVER and spans[nearest].resource == span.resource:
                # Two layers of one server, a framework in a framework: no call lies between.
                continue
            # Alone at the top, a server may know its caller by name; else the span above knows better.
            caller, callee, callee_type = above_name or caller_of(span.raw), service, "service"
        else:
            peer = peer_of(span.raw)
            if kind == _UNSPECIFIED:
                if not (service and peer):
                    continue
                kind = _CLIENT
            if kind == _CONSUMER:
                if brokers is None and peer is None:
                    brokers = brokers_by_link(spans)
                peer = peer or (brokers or {}).get(i)
            if peer is not None and (kind == _CONSUMER or (kind == _CLIENT and peer.receives)):
                caller, callee, callee_type = peer.name, service, "service"
            elif peer is not None:
                # Whatever a producer sends to is a broker, even if it is told by its service's name alone.
                caller, callee = service, peer.name
                callee_type = "messaging" if kind == _PRODUCER else peer.type
            else:
                caller = service
            if kind in (_PRODUCER, _CONSUMER) and not (caller and callee):
                continue
        duration_ns = durations_ns[i]
        failed = span[7] == _ERROR
        if above_name:
            if kind == _CLIENT and service and service != above_name:
                # The server's half of the call to this service is missing: its client's span tells that it was there.
                links.add(above_name, service, "service", False, duration_ns, NO_GAP)
            caller = caller or above_name
            if kind == _SERVER and nearest == parents[i] and spans[nearest][4] == _CLIENT:
                failed = failed or spans[nearest][7] == _ERROR
                duration_ns = durations_ns[nearest]
        if caller and callee:
            links.add(caller, callee, callee_type, failed, duration_ns, gaps[i])
    return links.sorted()


def brokers_by_link(spans: Sequence[Span]) -> dict[int, Peer]:
    """Of consumers of a trace that name no broker: that of the first producer among ``spans`` that they link to."""
    producers = {span.span_id: span for span in spans if span[4] == _PRODUCER}
    brokers: dict[int, Peer] = {}
    for i, span in enumerate(spans):
        if span[4] != _CONSUMER or not producers or peer_of(span.raw) is not None:
            continue
        for link in _links_of(span):
            producer = producers.get(link.span_id)
            peer = peer_of(producer.raw) if producer is not None and link.trace_id == producer.trace_id else None
            if peer is not None:
                brokers[i] = peer
                break
    return brokers


def merged_links(groups: Iterable[Iterable[ServiceLink]]) -> tuple[ServiceLink, ...]:
    """Sum of the links of many traces; any order and grouping gives the same."""
    links = _Links(set())
    for group in groups:
        for link in group:
            links.sum(link)
    return links.sorted()


class _Links:
    def __init__(self, services: Set[str]) -> None:
        self._services = services
        self._sums: dict[tuple[str, str, str], list[int]] = {}

    def add(self, caller: str, callee: str, callee_type: str, failed: bool, duration_ns: int, gap_ns: int) -> None:
        if callee_type == "external" and callee in self._services:
            callee_type = "service"
        sums = self._of(caller, callee, callee_type)
        sums[0] += 1
        sums[1] += failed
        sums[2] += duration_ns
        if gap_ns != NO_GAP:
            sums[3] += gap_ns
            sums[4] += 1

    def sum(self, link: ServiceLink) -> None:
        sums = self._of(link.caller, link.callee, link.callee_type)
        for i, value in enumerate(link[3:]):
            sums[i] += value

    def _of(self, caller: str, callee: str, callee_type: str) -> list[int]:
        """Calls, errors, duration, gap, calls with a gap."""
        key = caller, callee, callee_type
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0, 0, 0, 0, 0]
        return sums

    def sorted(self) -> tuple[ServiceLink, ...]:
        return tuple(ServiceLink(*key, *sums) for key, sums in sorted(self._sums.items()))


def _known(span: Span) -> str:
    service = span.resource.service
    return service if service != UNKNOWN_SERVICE else ""


def _remote_ancestors(tree: TraceTree) -> list[int]:
    """By span the nearest span above that is one side of a call; not across a gap in the tree."""
    spans, orphans = tree.spans, tree.orphans
    above: list[int] = []
    for i, parent in enumerate(tree.parents):
        if parent == NO_PARENT or i in orphans:
            above.append(NO_PARENT)
        else:
            above.append(parent if spans[parent][4] in _REMOTE else above[parent])
    return above


def _tells(tree: TraceTree, i: int, kind: int) -> bool:
    return kind != _INTERNAL and not (kind == _CLIENT and _is_answered(tree, i))


def _is_answered(tree: TraceTree, i: int) -> bool:
    """True if a span below tells of the call that span ``i`` makes, or of one that it is only the wrapping of."""
    service = tree.spans[i].service
    for child in tree.children[i]:
        if child in tree.orphans:
            continue
        span = tree.spans[child]
        if span[4] in _REMOTE or span.service != service or tree.children[child]:
            return True
    return False


def _links_of(span: Span) -> list[Link]:
    try:
        return span_detail(span.raw).links
    except MalformedPayload:
        return []
