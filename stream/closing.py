"""Traces that closed and wait to be published, for many are analysed, counted and judged cheaper than one."""

import logging
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from stream.assembler import Assembler, Limits, Revision, SpanBudget
from stream.attempt import attempt
from stream.hooks import TraceHook, TracesHook
from stream.sampling import KEPT_BY_RULE
from tracecore import batch_analysis
from tracecore.batch_analysis import MIN_SPANS, ClosedTraces, analysed_alone
from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.wire import tail_of

try:
    from stream import open_traces
    from stream.revision_columns import RevisionColumns, SpanSources
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    open_traces = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from stream.open_traces import OpenTraces
    from stream.pipeline import Outgoing, Pipeline

logger = logging.getLogger(__name__)


def is_compiled() -> bool:
    """True if there is compiled code to assemble and analyse with, and nothing waits for the compiler any more."""
    return open_traces is not None and open_traces.is_warm() and batch_analysis.is_warm()


class Closing:
    """Traces of one stream of spans that closed, of all its partitions.

    Detection hears of traces in the order in which they closed, however many wait. They wait a tenth of a second at
    most; no watermark may pass them. Whether compiled code does the work is settled here, for good.
    """

    def __init__(self, replay_id: str = "") -> None:
        self._replay_id = replay_id
        self._sources = SpanSources() if is_compiled() else None
        self._waiting: list[tuple[Pipeline, Sequence[Revision]]] = []

    def new_assembler(self, limits: Limits, budget: SpanBudget) -> "Assembler | OpenTraces":
        """What assembles one partition."""
        if self._sources is None:
            return Assembler(limits, budget)
        return open_traces.OpenTraces(limits, budget, self._sources)

    def add(self, pipeline: "Pipeline", revisions: Sequence[Revision]) -> None:
        """Traces of one partition that closed, as its assembler told."""
        if len(revisions):
            self._waiting.append((pipeline, revisions))

    def published(self) -> "list[Outgoing]":
        """What comes of all that waits."""
        waiting, self._waiting = self._waiting, []
        if self._sources is None:
            return self._published_alone([(pipeline, one) for pipeline, revisions in waiting for one in revisions])
        out = self._published_together(waiting) if waiting else []
        self._sources.release()
        return out

    def _published_together(self, waiting: "Sequence[tuple[Pipeline, Sequence[Revision]]]") -> "list[Outgoing]":
        revisions = RevisionColumns.joined([part for _, part in waiting if isinstance(part, RevisionColumns)])
        pipelines = [pipeline for pipeline, part in waiting for _ in range(len(part))]
        closed = attempt(self._analysed, revisions) if revisions.span_count >= MIN_SPANS else None
        if isinstance(closed, Exception):
            # Each alone then, so that the one to blame is found.
            logger.error("bug at one of %d traces", len(revisions), exc_info=closed)
        if not isinstance(closed, ClosedTraces):
            return self._published_alone(list(zip(pipelines, revisions, strict=True)))
        repaired = {trace: attempt(closed.__getitem__, trace) for trace in np.flatnonzero(closed.needs_repair).tolist()}
        if any(isinstance(trace, Exception) for trace in repaired.values()):
            return self._published_alone(list(zip(pipelines, revisions, strict=True)))
        odd = self._counted(pipelines, closed, revisions)
        findings = self._judged(pipelines, closed)
        looked_at = {*repaired, *odd, *findings, *np.flatnonzero(revisions.traces["is_shed"]).tolist()}
        out: list[Outgoing] = []
        each = zip(pipelines, closed.trace_ids, closed.records, strict=True)
        for trace, (pipeline, trace_id, written) in enumerate(each):
            record = pipeline.kept_whole(trace_id, written) if trace not in looked_at else None
            if record is not None:
                out.append(record)
            else:
                out += pipeline.published(
                    revisions[trace], attempt(closed.__getitem__, trace), odd.get(trace, set()), findings.get(trace, [])
                )
        return out

    def _analysed(self, revisions: "RevisionColumns") -> ClosedTraces:
        closed = ClosedTraces(revisions.gathered, self._replay_id, tail_of(KEPT_BY_RULE, self._replay_id))
        assert closed.records is not None  # here, where a bug is survived
        return closed

    def _counted(
        self, pipelines: "Sequence[Pipeline]", closed: ClosedTraces, revisions: "RevisionColumns"
    ) -> dict[int, set[bytes] | Exception]:
        """By trace what ``Windows.count`` says, if that is not empty; each pipeline counts its own, in their order."""
        odd: dict[int, set[bytes] | Exception] = {}
        number = {pipeline: at for at, pipeline in enumerate(dict.fromkeys(pipelines))}
        of = np.array([number[pipeline] for pipeline in pipelines], np.int64)
        for pipeline, at in number.items():
            odd |= pipeline.windows.count_columns(closed, revisions, np.flatnonzero(of == at))
        return odd

    def _judged(self, pipelines: "Sequence[Pipeline]", closed: ClosedTraces) -> dict[int, list[Finding] | Exception]:
        """By trace what detection finds in it, if it finds anything."""
        hooks = {id(pipeline.trace_hook): pipeline.trace_hook for pipeline in pipelines}
        hook = next(iter(hooks.values()))
        judged = (
            _judged_by(hook, closed)
            if len(hooks) == 1
            else _judged_in_turn([pipeline.trace_hook for pipeline in pipelines], closed)
        )
        return {trace: found for trace, found in enumerate(judged) if found}

    def _published_alone(self, waiting: "Sequence[tuple[Pipeline, Revision]]") -> "list[Outgoing]":
        traces = [attempt(analysed_alone, revision.gathered(), self._replay_id) for _, revision in waiting]
        # First all are counted, then all are judged, then all are published: as those are that are analysed together.
        misdated = [
            trace if isinstance(trace, Exception) else attempt(pipeline.counted, revision, trace)
            for (pipeline, revision), trace in zip(waiting, traces, strict=True)
        ]
        findings = _judged_in_turn([pipeline.trace_hook for pipeline, _ in waiting], traces)
        out: list[Outgoing] = []
        for (pipeline, revision), trace, odd, found in zip(waiting, traces, misdated, findings, strict=True):
            out += pipeline.published(revision, trace, odd, found)
        return out


def _judged_in_turn(
    hooks: Sequence[TraceHook | None], traces: Sequence[ClosedTrace | Exception]
) -> list[list[Finding] | Exception]:
    judged: list[list[Finding] | Exception] = []
    for hook, group in groupby(zip(hooks, traces, strict=True), itemgetter(0)):
        judged += _judged_by(hook, [trace for _, trace in group])
    return judged


def _judged_by(
    hook: TraceHook | None, traces: Sequence[ClosedTrace | Exception]
) -> Sequence[list[Finding] | Exception]:
    """By trace what detection finds in it. It hears of traces in the order in which they closed."""
    if hook is None:
        return [[] for _ in traces]
    if isinstance(hook, TracesHook):
        sound = traces if isinstance(traces, ClosedTraces) else [one for one in traces if isinstance(one, ClosedTrace)]
        if len(sound) == len(traces):
            found = attempt(hook.on_traces, sound)
            if not isinstance(found, Exception):
                return found
            # One by one then, so that the one to blame is found.
            logger.error("bug at one of %d traces", len(traces), exc_info=found)
    return [trace if isinstance(trace, Exception) else attempt(hook.on_trace, trace) for trace in traces]
