"""Spans of one trace to a tree: every span in it once, whatever their parent ids say.

What does not fit is repaired by rule, and the span that was repaired tells so in a warning:
- a span whose parent never arrived (an orphan) hangs under the root;
- where no root arrived, the first orphan stands for it;
- a circle of parents is cut at its earliest span, which is an orphan then; a span that names itself is a root;
- further roots stay roots, beside the first;
- a client's and a server's span with one id (Zipkin's shared spans): the server's hangs under the client's, with an
  id of its own, and so do the spans that name the shared id, but for those of the client's service.

The same spans in any order give the same tree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter

from tracecore.span import Span, SpanKind, identity, truer

NO_PARENT = -1

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)
_start_then_id = itemgetter(Span._fields.index("start_ns"), Span._fields.index("span_id"), Span._fields.index("kind"))


@dataclass(frozen=True, slots=True)
class TraceTree:
    """A trace's spans in the tree's order: a parent before its children, siblings by start; index 0 is the root.

    All sequences run parallel to ``spans``. ``parents[i] < i``, or ``NO_PARENT`` for a root. ``children[i]`` ascend.
    ``span_ids`` are as sent but for shared spans. ``orphans`` hang where they never said (or are a root for want of
    one): what holds between parent and child does not hold for them. ``warnings`` by index, in the order of repair.
    """

    spans: Sequence[Span]
    span_ids: Sequence[bytes]
    parents: Sequence[int]
    children: Sequence[Sequence[int]]
    depths: Sequence[int]
    orphans: frozenset[int]
    root_count: int
    missing_root: bool
    missing_parents: int
    duplicates: int
    warnings: dict[int, list[str]]

    def warn(self, index: int, warning: str) -> None:
        """Leave a warning on a span, for who reads the trace."""
        self.warnings.setdefault(index, []).append(warning)


def trace_tree(spans: Iterable[Span]) -> TraceTree:
    """The tree of ``spans`` (at least one, all of one trace). O(n log n), no recursion."""
    unique, duplicates = _unique(spans)
    unique.sort(key=_start_then_id)
    warnings: dict[int, list[str]] = {}
    span_ids = [span[1] for span in unique]
    index_of = dict(zip(span_ids, range(len(unique)), strict=True))
    if len(index_of) == len(unique):
        named = [index_of.get(span[2], NO_PARENT) if span[2] else NO_PARENT for span in unique]
    else:
        named = _parents_of_shared(unique, span_ids, warnings)
    parents, roots, orphans, missing = _adopted(unique, named, warnings)
    return _in_tree_order(unique, span_ids, parents, roots, orphans, missing, duplicates, warnings)


def shared_span_id(span_id: bytes) -> bytes:
    """The id that a server's span takes in the tree if its client's span has the same id."""
    return blake2b(span_id, digest_size=8, person=b"shared-span").digest()


def _unique(spans: Iterable[Span]) -> tuple[list[Span], int]:
    # Almost no trace has an id twice, on one side or on two: then no span needs to be looked at further.
    listed = list(spans)
    if len({span[1] for span in listed}) == len(listed):
        return listed, 0
    by_identity: dict[bytes, Span] = {}
    duplicates = 0
    for span in listed:
        key = identity(span)
        held = by_identity.get(key)
        if held is None:
            by_identity[key] = span
        else:
            duplicates += 1
            by_identity[key] = truer(held, span)
    return list(by_identity.values()), duplicates


def _parents_of_shared(spans: list[Span], span_ids: list[bytes], warnings: dict[int, list[str]]) -> list[int]:
    """Parents by index where some client and server share an id; gives those servers their own in ``span_ids``."""
    callers: dict[bytes, int] = {}
    servers: dict[bytes, int] = {}
    for i, span in enumerate(spans):
        (servers if span.kind in _RECEIVING else callers)[span.span_id] = i
    shared = callers.keys() & servers.keys()
    named: list[int] = []
    for i, span in enumerate(spans):
        if span.span_id in shared and i == servers[span.span_id]:
            named.append(callers[span.span_id])
            span_ids[i] = shared_span_id(span.span_id)
            warnings[i] = ["shares its span id with its client's span, and is shown under an id of its own"]
            continue
        parent_span_id = span.parent_span_id
        if not parent_span_id and span.span_id in shared:
            # Zipkin's client may tell its parent late, or only in the server's half.
            parent_span_id = spans[servers[span.span_id]].parent_span_id
            if parent_span_id == span.span_id:
                parent_span_id = b""
        caller, server = callers.get(parent_span_id, NO_PARENT), servers.get(parent_span_id, NO_PARENT)
        if caller == NO_PARENT or server == NO_PARENT:
            named.append(max(caller, server))
        else:
            is_callers = span.service == spans[caller].service != spans[server].service
            named.append(caller if is_callers else server)
    return named


def _adopted(
    spans: list[Span], named: list[int], warnings: dict[int, list[str]]
) -> tuple[list[int], list[int], set[int], set[bytes]]:
    """Parents with every span under a root; the roots, the first of them first; orphans; parents that never came."""
    roots: list[int] = []
    orphans: list[int] = []
    missing: set[bytes] = set()
    parents = named
    for i, parent in enumerate(named):
        if parent == NO_PARENT:
            parent_span_id = spans[i][2]
            if parent_span_id:
                orphans.append(i)
                missing.add(parent_span_id)
            else:
                roots.append(i)
        elif parent == i:
            parents[i] = NO_PARENT
            roots.append(i)
            _warn(warnings, i, "names itself as its parent")
    for i in _circles(parents):
        parents[i] = NO_PARENT
        orphans.append(i)
        _warn(warnings, i, "its parents form a circle, which is cut here")
    orphans.sort()
    cut = set(orphans)
    if not roots:
        roots.append(orphans.pop(0))
        _warn(warnings, roots[0], "stands for the root, which is missing")
    for i in orphans:
        parents[i] = roots[0]
        parent_span_id = spans[i][2]
        if parent_span_id in missing:
            _warn(warnings, i, f"its parent {parent_span_id.hex()} is missing: shown under the root")
        else:
            _warn(warnings, i, "shown under the root")
    return parents, roots, cut, missing


def _circles(parents: list[int]) -> list[int]:
    """The smallest index of every circle in ``parents``. O(n)."""
    cut: list[int] = []
    # 0: not seen; otherwise the number of the walk that saw it.
    seen = bytearray(len(parents))
    for i, parent in enumerate(parents):
        # Almost all parents start before their children and were settled already: one look each.
        if seen[i]:
            continue
        if parent == NO_PARENT or seen[parent] == 2:
            seen[i] = 2
            continue
        walk: list[int] = []
        while i != NO_PARENT and not seen[i]:
            seen[i] = 1
            walk.append(i)
            i = parents[i]
        if i != NO_PARENT and seen[i] == 1:
            cut.append(min(walk[walk.index(i) :]))
        for j in walk:
            seen[j] = 2
    return cut


def _in_tree_order(
    spans: list[Span],
    span_ids: list[bytes],
    parents: list[int],
    roots: list[int],
    orphans: set[int],
    missing: set[bytes],
    duplicates: int,
    warnings: dict[int, list[str]],
) -> TraceTree:
    children: list[list[int] | None] = [None] * len(spans)
    for i, parent in enumerate(parents):
        if parent != NO_PARENT:
            siblings = children[parent]
            if siblings is None:
                children[parent] = [i]
            else:
                siblings.append(i)
    order: list[int] = []
    ranks = [0] * len(spans)
    stack = roots[::-1]
    while stack:
        i = stack.pop()
        ranks[i] = len(order)
        order.append(i)
        below = children[i]
        if below is not None:
            stack += below[::-1]
    ranked_parents: list[int] = []
    ranked_children: list[Sequence[int]] = []
    depths: list[int] = []
    for i in order:
        parent = parents[i]
        if parent == NO_PARENT:
            ranked_parents.append(NO_PARENT)
            depths.append(0)
        else:
            rank = ranks[parent]
            ranked_parents.append(rank)
            depths.append(depths[rank] + 1)
        below = children[i]
        ranked_children.append(() if below is None else [ranks[child] for child in below])
    return TraceTree(
        spans=[spans[i] for i in order],
        span_ids=[span_ids[i] for i in order],
        parents=ranked_parents,
        children=ranked_children,
        depths=depths,
        orphans=frozenset(ranks[i] for i in orphans),
        root_count=len(roots),
        missing_root=roots[0] in orphans,
        missing_parents=len(missing),
        duplicates=duplicates,
        warnings={ranks[i]: texts for i, texts in warnings.items()},
    )


def _warn(warnings: dict[int, list[str]], index: int, warning: str) -> None:
    warnings.setdefault(index, []).append(warning)
