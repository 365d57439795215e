"""What becomes of the spans of one partition, from record to records: assembly, windows, detection, sampling.

It decides and sends nothing: every call returns the records to publish. The same calls give the same records.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from stream.assembler import Arrived, Limits, Revision, SpanBudget
from stream.attempt import attempt
from stream.closing import Closing
from stream.handover import Handover, HandoverRecord, handover_records
from stream.hooks import Hooks, TraceHook
from stream.outgoing import Outgoing, OutgoingRecord, OutgoingRun
from stream.sampling import KEPT_BY_RULE, Sampler, SamplingRule
from stream.windows import WindowLimits, Windows
from tracecore.batch_analysis import ClosedTraces
from tracecore.closed_trace import ClosedTrace
from tracecore.dead_letter import dead_letter_headers
from tracecore.errors import UndecodableRecord
from tracecore.finding import Finding
from tracecore.otlp import encode_spans
from tracecore.record_spans import RecordSpans
from tracecore.span import Span
from tracecore.topics import REPLAY_HEADER, Topics
from tracecore.window import WINDOW_NS, OperationWindow, Window
from tracecore.wire import encode_finding, encode_trace, encode_window

logger = logging.getLogger(__name__)

#: Later than any window ends.
_END_OF_TIME_NS = 2**62
#: A trace id in hex.
_KEY_BYTES = 32

MISDATED_SPAN = "span time is not credible: counted at arrival"
MISDATED_TRACE = "spans with times that are not credible were counted at their arrival"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What every partition of a worker shares."""

    topics: Topics
    limits: Limits
    window_limits: WindowLimits
    sampling: SamplingRule
    #: Partitions of the source topic.
    partitions: int


@dataclass(slots=True)
class Tally:
    """What a pipeline published and withheld."""

    traces: int = 0
    trace_records: int = 0
    sampled_out: int = 0
    windows: int = 0
    findings: int = 0
    orphan_spans: int = 0
    rootless_traces: int = 0
    misdated_spans: int = 0
    dead_letters: int = 0

    def add(self, other: "Tally") -> None:
        """Sum up, in place."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Pipeline:
    """One partition of the source topic; of a replay, one partition of one replay.

    ``take``, ``take_together`` and ``move`` leave traces that close to ``closing``; ``read`` and ``advance`` publish
    them at once.
    """

    def __init__(
        self,
        partition: int,
        rules: Rules,
        budget: SpanBudget,
        hooks: Hooks,
        replay_id: str = "",
        closing: Closing | None = None,
        told_until_ns: int = 0,
    ) -> None:
        """``told_until_ns`` is how far the windows of a predecessor that was killed had closed."""
        self.partition = partition
        self._closing = closing or Closing(replay_id)
        self.assembler = self._closing.new_assembler(rules.limits, budget)
        self.windows = Windows(partition, rules.window_limits, told_until_ns)
        self.tally = Tally()
        self._rules = rules
        self._topics = rules.topics
        # Put together once, not for every record.
        self._traces_topic = rules.topics.traces
        self._hooks = hooks
        self._replay_id = replay_id
        self._headers = ((REPLAY_HEADER, replay_id.encode()),) if replay_id else ()
        self._sampler = Sampler(rules.sampling)
        self._told_until_ns = 0

    @property
    def trace_hook(self) -> TraceHook | None:
        """What judges traces as they close."""
        return self._hooks.trace_hook

    @property
    def first_offset(self) -> int | None:
        """The lowest offset that an open trace or window rests on; None if there is none."""
        needed = [self.assembler.first_offset, self.windows.first_offset]
        return min((offset for offset in needed if offset is not None), default=None)

    def read(self, spans: Sequence[Span], offset: int, arrival_ns: int, is_known: bool = False) -> list[Outgoing]:
        """Take the spans of one record, and publish what that closes."""
        return self.take(spans, offset, arrival_ns, is_known) + self._closing.published()

    def advance(self, now_ns: int) -> list[Outgoing]:
        """Move the arrival watermark, though no record came, and publish what that closes."""
        return self.move(now_ns) + self._closing.published()

    def take(
        self, spans: RecordSpans | Sequence[Span], offset: int, arrival_ns: int, is_known: bool = False
    ) -> list[Outgoing]:
        """Take the spans of one record; what comes of them before any trace closes.

        ``is_known``: detection saw them before, in a predecessor's hands.
        """
        return self.take_together([Arrived(spans, offset, arrival_ns)], is_known)

    def take_together(self, records: Sequence[Arrived], is_known: bool = False) -> list[Outgoing]:
        """``take`` of each, in their order. If a hook raises, none of several is taken; one alone is."""
        if len(records) > 1 and self.windows.due_ns(max(one.arrival_ns for one in records)) is not None:
            return [outgoing for one in records for outgoing in self.take_together([one], is_known)]
        judged = [] if is_known else attempt(self._judged, records)
        bug, found = (judged, []) if isinstance(judged, Exception) else (None, judged)
        if bug is not None and len(records) > 1:
            raise bug
        named = {at: [bytes.fromhex(finding.trace_id) for finding in findings] for at, findings in found}
        records = [one._replace(interesting=named.get(at, ())) for at, one in enumerate(records)] if named else records
        self._closing.add(self, self.assembler.add(records))
        if bug is not None:
            raise bug
        return self._findings([finding for _, findings in found for finding in findings]) + self._windows_due()

    def _judged(self, records: Sequence[Arrived]) -> list[tuple[int, list[Finding]]]:
        """What detection finds at once, by the place of its record."""
        hook = self._hooks.span_hook
        if hook is None:
            return []
        found: list[tuple[int, list[Finding]]] = []
        for at, one in enumerate(records):
            failed = one.spans.failed() if isinstance(one.spans, RecordSpans) else one.spans
            if failed:
                found.append((at, hook.on_spans(failed, one.arrival_ns, self.partition)))
        return found

    def move(self, now_ns: int) -> list[Outgoing]:
        """Move the arrival watermark, though no record came; what comes of that before any trace closes."""
        self._closing.add(self, self.assembler.advance(now_ns))
        return self._windows_due()

    def finish(self) -> list[Outgoing]:
        """The end of a replay: close all that is open, and tell detection that nothing will come any more."""
        self._closing.add(self, self.assembler.finish())
        out = self._closing.published()
        closed, amended = self.windows.advance(_END_OF_TIME_NS)
        out += self._window_records([series for window in closed for series in window.series] + amended)
        told = [(window.series, window.start_ns + WINDOW_NS) for window in closed]
        return out + self._told([*told, ((), _END_OF_TIME_NS)])

    def handover(self, next_offset: int) -> list[HandoverRecord]:
        """What a successor needs that starts at ``next_offset``."""
        windows = self.windows
        return list(
            handover_records(next_offset, windows.closed_until_ns, self.assembler.open_spans(), windows.changed())
        )

    def take_over(self, handover: Handover, offset: int) -> None:
        """Go on with a predecessor's windows; its spans come to ``read``. Raises ``MalformedPayload``."""
        self.windows.take_over(handover.decoded_windows(), handover.closed_until_ns, offset)
        self._told_until_ns = max(self._told_until_ns, handover.closed_until_ns)

    def counted(self, revision: Revision, trace: ClosedTrace) -> set[bytes]:
        """Count a trace that closed into windows; the ids of spans with times that are not credible."""
        return self.windows.count_revision(trace, revision)

    @property
    def keeps_all(self) -> bool:
        """True if every trace is kept, whatever it is: see ``kept_whole``."""
        return self._sampler.keeps_all

    def kept_whole(self, traces: ClosedTraces, which: Array) -> OutgoingRun:
        """Some of ``traces``, which compiled code wrote as kept by rule, and in which there is nothing odd.

        They are for ``published`` unless this ``keeps_all``, or if a record is too large.
        """
        self.tally.traces += len(which)
        self.tally.trace_records += len(which)
        keys = traces.packed_ids[which].tobytes().hex().encode()
        starts, ends = traces.bounds[which], traces.bounds[which + 1]
        return OutgoingRun(
            self._traces_topic, keys, _KEY_BYTES, traces.records, starts, ends, self._headers, self.partition
        )

    def published(
        self,
        revision: Revision,
        trace: ClosedTrace | Exception,
        misdated: set[bytes] | Exception,
        findings: list[Finding] | Exception,
    ) -> list[Outgoing]:
        """What comes of a trace that closed, and was counted and judged.

        ``misdated`` are the ids of its spans with times that are not credible, ``findings`` what detection found in it.
        An exception is a bug that showed there.
        """
        try:
            if isinstance(trace, Exception):
                raise trace
            if isinstance(misdated, Exception):
                raise misdated
            if isinstance(findings, Exception):
                raise findings
            return self._publish(revision, trace, misdated, findings)
        except Exception as error:
            # One odd trace must not stop all others, again after every start. Its spans are kept for a re-drive.
            logger.exception("bug at trace %s", revision.trace_id.hex())
            return [self._dead_letter(revision, f"bug: {error!r}")]

    def _dead_letter(self, revision: Revision, reason: str) -> Outgoing:
        self.tally.dead_letters += 1
        error = UndecodableRecord(self._topics.spans, self.partition, revision.first_offset, reason)
        key = revision.trace_id.hex().encode()
        headers = (*dead_letter_headers(error), *self._headers)
        return OutgoingRecord(self._topics.dead_letters, key, encode_spans(revision.spans), None, headers)

    def _publish(
        self, revision: Revision, trace: ClosedTrace, misdated: set[bytes], findings: list[Finding]
    ) -> list[Outgoing]:
        tally = self.tally
        tally.traces += 1
        tally.orphan_spans += trace.missing_parents
        tally.rootless_traces += trace.missing_root
        if misdated:
            tally.misdated_spans += len(misdated)
            trace = _with_warnings(trace, misdated)
        keeps_all = self._sampler.keeps_all
        sampled_by = KEPT_BY_RULE if keeps_all else self._sampled_by(revision, trace, bool(findings))
        if revision.shed:
            findings = [*findings, _shed_finding(trace)]
        out: list[Outgoing] = []
        if sampled_by:
            key = trace.trace_id.hex().encode()
            # Held by nobody else: replace() would cost as much as all of sampling.
            trace.sampled_by = sampled_by
            for record in encode_trace(trace):
                out.append(OutgoingRecord(self._traces_topic, key, record, None, self._headers, self.partition))
                tally.trace_records += 1
        else:
            tally.sampled_out += 1
        return out + self._findings(findings) if findings else out

    def _sampled_by(self, revision: Revision, trace: ClosedTrace, is_found: bool) -> str:
        # An earlier revision may have been kept while this one waited.
        kept_by = revision.kept_by or (self.assembler.kept_by(trace.trace_id) if revision.revision > 1 else "")
        sampled_by = self._sampler.sampled_by(trace, revision.interesting or is_found, kept_by)
        if sampled_by:
            self.assembler.mark_kept(trace.trace_id, sampled_by)
        return sampled_by

    def _windows_due(self) -> list[Outgoing]:
        due_ns = self.windows.due_ns(self.assembler.now_ns)
        if due_ns is None:
            return []
        # What closed until now belongs into them.
        out = self._closing.published()
        closed, amended = self.windows.advance(due_ns)
        out += self._window_records([series for window in closed for series in window.series] + amended)
        until_ns = self.windows.closed_until_ns
        if self._hooks.window_hook is not None and until_ns > self._told_until_ns:
            told: list[tuple[Sequence[Window], int]] = [
                (window.series, window.start_ns + WINDOW_NS) for window in closed
            ]
            if not told or told[-1][1] < until_ns:
                told.append(([], until_ns))
            out += self._told(told)
        self._told_until_ns = until_ns
        return out

    def _told(self, windows: Sequence[tuple[Sequence[Window], int]]) -> list[Outgoing]:
        """Tell detection of windows that closed, each with its end."""
        if self._hooks.window_hook is None:
            return []
        partition, now_ns = self.partition, self.assembler.now_ns
        return [
            self._finding_record(str(partition).encode(), record)
            for series, end_ns in windows
            for record in self._hooks.window_hook.on_windows(series, end_ns, now_ns, partition, self._rules.partitions)
        ]

    def _window_records(self, windows: Sequence[Window]) -> list[Outgoing]:
        self.tally.windows += len(windows)
        topic, headers = self._topics.windows, self._headers
        return [OutgoingRecord(topic, window_key(window), encode_window(window), None, headers) for window in windows]

    def _findings(self, findings: Sequence[Finding]) -> list[Outgoing]:
        return [self._finding_record(finding.service.encode(), encode_finding(finding)) for finding in findings]

    def _finding_record(self, key: bytes, value: bytes) -> Outgoing:
        self.tally.findings += 1
        # With the time of sending: Kafka would delete what carries a replay's times by their age, unread.
        return OutgoingRecord(self._topics.findings, key, value, None, self._headers)


def window_key(window: Window) -> bytes:
    """What partitions the windows topic: all parts of a series stand in one partition."""
    if isinstance(window, OperationWindow):
        return f"{window.service}\x1f{window.operation}".encode()
    return f"{window.caller}\x1f{window.callee}".encode()


def _with_warnings(trace: ClosedTrace, misdated: set[bytes]) -> ClosedTrace:
    spans = tuple(
        span._replace(warnings=(*span.warnings, MISDATED_SPAN)) if span.span_id in misdated else span
        for span in trace.spans
    )
    return replace(trace, spans=spans, warnings=(*trace.warnings, MISDATED_TRACE))


def _shed_finding(trace: ClosedTrace) -> Finding:
    return Finding(
        finding_id=f"shed-{trace.trace_id.hex()}-{trace.revision}-{trace.span_count}",
        kind="shed_trace",
        service=trace.root_service,
        operation=trace.root_name,
        at_ns=trace.end_ns,
        arrival_ns=trace.last_arrival_ns,
        observed=float(trace.span_count),
        unit="spans",
        message=(
            f"Closed after {trace.span_count} spans, before it was due: the worker holds as many spans as"
            " TRACEWATCH_STREAM_MEMORY_SPANS allows. What comes later is a trace of its own."
        ),
        trace_id=trace.trace_id.hex(),
        span_id=trace.root_span_id.hex(),
        replay_id=trace.replay_id,
    )
