"""Traces that closed and wait to be published, for many are analysed, counted and judged cheaper than one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stream.assembler import Assembler, Limits, Revision, SpanBudget
from stream.attempt import attempt
from stream.hooks import TraceHook, TracesHook
from stream.outgoing import Outgoing, OutgoingRun
from stream.sampling import KEPT_BY_RULE
from stream.windows import Windows
from tracecore import batch_analysis
from tracecore.batch_analysis import MIN_SPANS, ClosedTraces, analysed_alone
from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.stretches import stretches
from tracecore.topics import MAX_RECORD_BYTES
from tracecore.wire import tail_of

try:
    from stream import open_traces
    from stream.revision_columns import RevisionColumns, SpanSources
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    open_traces = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from stream.open_traces import OpenTraces

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
#: By place of a trace what detection finds in it, if it finds anything.
Findings = dict[int, list[Finding] | Exception]


def is_compiled() -> bool:
    """True if there is compiled code to assemble and analyse with, and nothing waits for the compiler any more."""
    return open_traces is not None and open_traces.is_warm() and batch_analysis.is_warm()


class Publisher(Protocol):
    """What counts the traces of one partition, has them judged, and makes records of them: ``Pipeline``."""

    @property
    def trace_hook(self) -> TraceHook | None:
        """What judges them."""

    @property
    def keeps_all(self) -> bool:
        """True if what is ``kept_whole`` need not be judged."""

    @property
    def windows(self) -> Windows:
        """Where they are counted."""

    def counted(self, revision: Revision, trace: ClosedTrace) -> set[bytes]:
        """Count one; the ids of its spans with times that are not credible."""

    def kept_whole(self, traces: ClosedTraces, which: Array) -> OutgoingRun:
        """Records of some of ``traces``, in which there is nothing odd."""

    def published(
        self,
        revision: Revision,
        trace: ClosedTrace | Exception,
        misdated: set[bytes] | Exception,
        findings: list[Finding] | Exception,
    ) -> list[Outgoing]:
        """What comes of one of them."""


class Closing:
    """Traces of one stream of spans that closed, of all its partitions.

    Detection hears of traces in the order in which they closed, however many wait. They wait a tenth of a second at
    most; no watermark may pass them. Whether compiled code does the work is settled here, for good.
    """

    def __init__(self, replay_id: str = "") -> None:
        self._replay_id = replay_id
        self._sources = SpanSources() if is_compiled() else None
        self._waiting: list[tuple[Publisher, Sequence[Revision]]] = []

    def new_assembler(self, limits: Limits, budget: SpanBudget) -> "Assembler | OpenTraces":
        """What assembles one partition."""
        if self._sources is None:
            return Assembler(limits, budget)
        return open_traces.OpenTraces(limits, budget, self._sources)

    def add(self, publisher: Publisher, revisions: Sequence[Revision]) -> None:
        """Traces of one partition that closed, as its assembler told."""
        if len(revisions):
            self._waiting.append((publisher, revisions))

    def published(self) -> list[Outgoing]:
        """What comes of all that waits."""
        waiting, self._waiting = self._waiting, []
        if self._sources is None:
            return self._published_alone([(publisher, one) for publisher, revisions in waiting for one in revisions])
        out = self._published_together(waiting) if waiting else []
        self._sources.release()
        return out

    def _published_together(self, waiting: Sequence[tuple[Publisher, Sequence[Revision]]]) -> list[Outgoing]:
        revisions = RevisionColumns.joined([part for _, part in waiting if isinstance(part, RevisionColumns)])
        publishers = [publisher for publisher, part in waiting for _ in range(len(part))]
        closed = attempt(self._analysed, revisions) if revisions.span_count >= MIN_SPANS else None
        if isinstance(closed, Exception):
            # Each alone then, so that the one to blame is found.
            logger.error("bug at one of %d traces", len(revisions), exc_info=closed)
        if not isinstance(closed, ClosedTraces):
            return self._published_alone(list(zip(publishers, revisions, strict=True)))
        repaired = {trace: attempt(closed.__getitem__, trace) for trace in np.flatnonzero(closed.needs_repair).tolist()}
        if any(isinstance(trace, Exception) for trace in repaired.values()):
            return self._published_alone(list(zip(publishers, revisions, strict=True)))
        ours = _by_publisher(publishers)
        odd = self._counted(ours, closed, revisions)
        findings = self._judged(publishers, closed)
        plain = ~revisions.traces["is_shed"].astype(np.bool_) & (np.diff(closed.bounds) <= MAX_RECORD_BYTES)
        plain[[*repaired, *odd, *findings]] = False

        def publish(publisher: Publisher, trace: int) -> list[Outgoing]:
            made = attempt(closed.__getitem__, trace)
            return publisher.published(revisions[trace], made, odd.get(trace, set()), findings.get(trace, []))

        return _whole_or_one_by_one(closed, ours, plain, publish)

    def _analysed(self, revisions: "RevisionColumns") -> ClosedTraces:
        closed = ClosedTraces(revisions.gathered, self._replay_id, tail_of(KEPT_BY_RULE, self._replay_id))
        assert closed.records is not None  # here, where a bug is survived
        return closed

    def _counted(
        self, ours: Mapping[Publisher, Array], closed: ClosedTraces, revisions: "RevisionColumns"
    ) -> dict[int, set[bytes] | Exception]:
        """By trace what ``Windows.count`` says, if that is not empty; each publisher counts its own, in their order."""
        odd: dict[int, set[bytes] | Exception] = {}
        for publisher, its in ours.items():
            odd |= publisher.windows.count_columns(closed, revisions, its)
        return odd

    def _judged(self, publishers: Sequence[Publisher], closed: ClosedTraces) -> Findings:
        hooks = {id(publisher.trace_hook): publisher.trace_hook for publisher in dict.fromkeys(publishers)}
        if len(hooks) == 1:
            return _judged_by(next(iter(hooks.values())), closed)
        return _judged_in_turn([publisher.trace_hook for publisher in publishers], closed)

    def _published_alone(self, waiting: Sequence[tuple[Publisher, Revision]]) -> list[Outgoing]:
        traces = [attempt(analysed_alone, revision.gathered(), self._replay_id) for _, revision in waiting]
        # First all are counted, then all are judged, then all are published: as those are that are analysed together.
        misdated = [
            trace if isinstance(trace, Exception) else attempt(publisher.counted, revision, trace)
            for (publisher, revision), trace in zip(waiting, traces, strict=True)
        ]
        findings = _judged_in_turn([publisher.trace_hook for publisher, _ in waiting], traces)
        out: list[Outgoing] = []
        for place, ((publisher, revision), trace, odd) in enumerate(zip(waiting, traces, misdated, strict=True)):
            out += publisher.published(revision, trace, odd, findings.get(place, []))
        return out


def _whole_or_one_by_one(
    closed: ClosedTraces,
    ours: Mapping[Publisher, Array],
    plain: Array,
    publish: Callable[[Publisher, int], list[Outgoing]],
) -> list[Outgoing]:
    """What is ``plain`` goes in runs; each partition's in its order, and what goes alone in the order of closing."""
    out: list[tuple[int, list[Outgoing]]] = []
    for publisher, its in ours.items():
        is_plain = plain[its] & publisher.keeps_all
        for low, high in stretches(is_plain):
            if is_plain[low]:
                out.append((int(its[low]), [publisher.kept_whole(closed, its[low:high])]))
            else:
                out += [(trace, publish(publisher, trace)) for trace in its[low:high].tolist()]
    out.sort(key=itemgetter(0))
    return [record for _, records in out for record in records]


def _by_publisher(publishers: Sequence[Publisher]) -> dict[Publisher, Array]:
    """The places of each in ``publishers``, ascending."""
    number = {publisher: at for at, publisher in enumerate(dict.fromkeys(publishers))}
    of = np.fromiter(map(number.__getitem__, publishers), np.int64, len(publishers))
    return {publisher: np.flatnonzero(of == at) for publisher, at in number.items()}


def _judged_in_turn(hooks: Sequence[TraceHook | None], traces: Sequence[ClosedTrace | Exception]) -> Findings:
    judged: Findings = {}
    first = 0
    for hook, group in groupby(zip(hooks, traces, strict=True), itemgetter(0)):
        its = [trace for _, trace in group]
        judged |= {first + place: found for place, found in _judged_by(hook, its).items()}
        first += len(its)
    return judged


def _judged_by(hook: TraceHook | None, traces: Sequence[ClosedTrace | Exception]) -> Findings:
    """It hears of traces in the order in which they closed."""
    if hook is None:
        return {}
    if isinstance(hook, TracesHook):
        sound = traces if isinstance(traces, ClosedTraces) else [one for one in traces if isinstance(one, ClosedTrace)]
        if len(sound) == len(traces):
            found = attempt(hook.on_traces, sound)
            if not isinstance(found, Exception):
                return dict(found)
            # One by one then, so that the one to blame is found.
            logger.error("bug at one of %d traces", len(traces), exc_info=found)
    judged = (trace if isinstance(trace, Exception) else attempt(hook.on_trace, trace) for trace in traces)
    return {place: found for place, found in enumerate(judged) if found}
