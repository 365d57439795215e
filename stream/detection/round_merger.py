"""Rounds of all partitions to the whole: what every service did in ten seconds, once everyone has told of them.

A window is whole when each partition's watermark has passed its end. A partition that says nothing for ``patience``
of the others' time (its worker died) is not waited for; the window is then marked as not whole, so that nobody takes
the missing part for a drop in traffic.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stream.detection.round import Round
from tracecore.window import WINDOW_NS, HopWindow, OperationWindow, merged_hop, merged_operation

#: Silent windows in a row that are told one by one; a longer silence is a gap, told by its last window alone.
MAX_SILENT_WINDOWS = 30

#: A round that ends here tells that its partition has nothing more to tell, ever.
END_NS = 2**62

OperationKey = tuple[str, str, int]
HopKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class WholeWindow:
    """All that was seen in the ten seconds that end at ``end_ns``. ``arrival_ns`` is when the last part was told."""

    end_ns: int
    arrival_ns: int
    operations: dict[OperationKey, OperationWindow]
    hops: dict[HopKey, HopWindow]
    #: Every partition told of it.
    is_whole: bool
    #: Windows before this one in which nothing at all was seen, and which are not told.
    skipped: int = 0

    @property
    def start_ns(self) -> int:
        """Start of the window."""
        return self.end_ns - WINDOW_NS


class _Pending:
    __slots__ = ("arrival_ns", "hops", "operations", "partitions")

    def __init__(self) -> None:
        self.arrival_ns = 0
        self.partitions: set[int] = set()
        self.operations: dict[tuple[OperationKey, int], OperationWindow] = {}
        self.hops: dict[tuple[HopKey, int], HopWindow] = {}


class RoundMerger:
    """Holds what is not whole yet. ``patience_ns`` None: wait for every partition, for ever (a replay)."""

    def __init__(self, patience_ns: int | None) -> None:
        self._patience_ns = patience_ns
        self._pending: dict[int, _Pending] = {}
        #: By partition, until when it has told everything, and when it told so.
        self._told: dict[int, tuple[int, int]] = {}
        self._partitions = 0
        self._done_ns = 0
        self.late_total = 0

    def add(self, round_: Round) -> list[WholeWindow]:
        """Take a round in; the windows that are whole now, oldest first."""
        self._partitions = max(self._partitions, round_.partitions)
        if round_.end_ns >= END_NS:
            pass
        elif round_.end_ns <= self._done_ns:
            self.late_total += bool(round_.operations)
        else:
            self._hold(round_)
        if round_.is_last:
            until_ns, arrival_ns = self._told.get(round_.partition, (0, 0))
            self._told[round_.partition] = max(until_ns, round_.end_ns), max(arrival_ns, round_.arrival_ns)
        return list(self._whole())

    @property
    def is_over(self) -> bool:
        """Every partition has told that nothing will come any more: the end of a replay."""
        return self._partitions > 0 and len(self._told) >= self._partitions and min(self._told.values())[0] >= END_NS

    def flush(self) -> list[WholeWindow]:
        """What is still held, whole or not: nothing more will come."""
        return list(self._until(max(self._pending, default=0)))

    def _hold(self, round_: Round) -> None:
        pending = self._pending.setdefault(round_.end_ns, _Pending())
        pending.arrival_ns = max(pending.arrival_ns, round_.arrival_ns)
        pending.partitions.add(round_.partition)
        # Told twice (a crash): the fuller one is the truth.
        for operation in round_.operations:
            at = operation.key, round_.partition
            if at not in pending.operations or pending.operations[at].spans <= operation.spans:
                pending.operations[at] = operation
        for hop in round_.hops:
            there = hop.key, round_.partition
            if there not in pending.hops or pending.hops[there].spans <= hop.spans:
                pending.hops[there] = hop

    def _whole(self) -> Iterator[WholeWindow]:
        everyone = len(self._told) >= self._partitions
        ready_ns = min(until for until, _ in self._told.values()) if everyone else 0
        if self._patience_ns is not None and self._told:
            ready_ns = max(ready_ns, max(until for until, _ in self._told.values()) - self._patience_ns)
        yield from self._until(ready_ns)

    def _until(self, ready_ns: int) -> Iterator[WholeWindow]:
        for end_ns in sorted(end for end in self._pending if end <= ready_ns):
            if self._done_ns and end_ns - self._done_ns <= MAX_SILENT_WINDOWS * WINDOW_NS:
                for silent_ns in range(self._done_ns + WINDOW_NS, end_ns, WINDOW_NS):
                    yield self._silent(silent_ns)
            yield self._merged(end_ns, self._pending.pop(end_ns))
            self._done_ns = end_ns

    def _silent(self, end_ns: int) -> WholeWindow:
        arrival_ns = max(arrival for _, arrival in self._told.values())
        return WholeWindow(end_ns, arrival_ns, {}, {}, self._is_told_by_all(end_ns))

    def _merged(self, end_ns: int, pending: _Pending) -> WholeWindow:
        operations: dict[OperationKey, list[OperationWindow]] = {}
        for (key, _), operation in sorted(pending.operations.items()):
            operations.setdefault(key, []).append(operation)
        hops: dict[HopKey, list[HopWindow]] = {}
        for (hop_key, _), hop in sorted(pending.hops.items()):
            hops.setdefault(hop_key, []).append(hop)
        skipped = (end_ns - self._done_ns) // WINDOW_NS - 1 if self._done_ns else 0
        return WholeWindow(
            end_ns,
            pending.arrival_ns,
            {key: merged_operation(parts) for key, parts in operations.items()},
            {key: merged_hop(parts) for key, parts in hops.items()},
            self._is_told_by_all(end_ns),
            skipped if skipped >= MAX_SILENT_WINDOWS else 0,
        )

    def _is_told_by_all(self, end_ns: int) -> bool:
        return len(self._told) >= self._partitions and all(until >= end_ns for until, _ in self._told.values())
